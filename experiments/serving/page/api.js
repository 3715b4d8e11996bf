// Talks to the server. The key stays in this tab, and goes in a header, never in an address.

const KEY = "forgery-api-key";

/** What the server refused, or that it could not be reached (status 0). */
export class ApiError extends Error {
  constructor(status, code, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

export const getKey = () => sessionStorage.getItem(KEY);
export const setKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

const headers = () => (getKey() ? { Authorization: `Bearer ${getKey()}` } : {});

/** Ask for a path of the server; gives the answer, or throws an ApiError. */
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: headers(), cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The server cannot be reached.");
  }
  if (!answer.ok) throw refusal(answer.status, await answer.text(), answer.headers.get("Retry-After"));
  return answer;
}

export const askJson = async (path, options) => (await ask(path, options)).json();

/**
 * Send a video.
 * @param {File} file the video; its name stays here
 * @param {boolean} explained whether heat maps are made
 * @param {(done: number, total: number) => void} tell called while it goes
 * @param {AbortSignal} signal ends it
 */
export function send(file, explained, tell, signal) {
  const form = new FormData();
  form.append("file", file, "video");
  return new Promise((resolve, reject) => {
    // fetch does not tell how far an upload is
    const request = new XMLHttpRequest();
    request.open("POST", `jobs?explained=${explained}`);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => tell(event.loaded, event.total);
    request.onerror = () =>
      reject(new ApiError(0, "unreachable", "The connection broke while the video was sent."));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.onload = () => {
      if (request.status === 202) resolve(JSON.parse(request.responseText));
      else {
        const after = request.getResponseHeader("Retry-After");
        reject(refusal(request.status, request.responseText, after));
      }
    };
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** Give an address for a media element or a download: with a key only a copy can be shown. */
export async function address(path, signal) {
  if (!getKey()) return path;
  return URL.createObjectURL(await (await ask(path, { signal })).blob());
}

function refusal(status, text, retryAfter) {
  let error = {};
  try {
    error = JSON.parse(text).error ?? {};
  } catch {
    // an answer of something in between, as a proxy
  }
  const message = error.message ?? `The server answered with status ${status}.`;
  return new ApiError(status, error.code ?? "http", message, retryAfter);
}
