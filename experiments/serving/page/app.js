// The page: send a video, wait, show the result. One part is seen at a time.

import * as api from "./api.js";
import { byId, bytes, lasting } from "./dom.js";
import { Evidence } from "./evidence.js";
import { peopleOf } from "./report.js";
import { fillDownloads, fillPeople, showReport } from "./result.js";

const PARTS = ["key-form", "send-form", "work", "result"];
const TITLE = document.title;
/** Milliseconds between looks at a job; less often while the server cannot be reached. */
const LOOK_MS = 700;
const LOST_MS = 4000;
const FINAL = new Set(["done", "failed", "cancelled", "expired"]);
const STAGES = ["upload", "queue", "faces", "score", "write"];

let limits = null;
let sending = null; // AbortController of what goes on
let evidence = null;
let copies = []; // addresses of copies that must be released
let names = new Map(); // job -> name of the file, which the server is never told

const say = (text) => (byId("status").textContent = text);
const wait = (ms, signal) => new Promise((resolve, reject) => {
  const stop = () => { clearTimeout(timer); reject(new DOMException("cancelled", "AbortError")); };
  const timer = setTimeout(() => { signal.removeEventListener("abort", stop); resolve(); }, ms);
  signal.addEventListener("abort", stop, { once: true });
});

function show(part, title) {
  for (const id of PARTS) byId(id).hidden = id !== part;
  byId("trouble").hidden = true;
  byId("forget-key").hidden = !api.getKey();
  document.title = title ? `${title} – ${TITLE}` : TITLE;
  window.scrollTo(0, 0);
}

/** Say what went wrong, above whatever part is seen. */
function trouble(title, text) {
  byId("trouble-title").textContent = title;
  byId("trouble-text").textContent = text;
  byId("trouble").hidden = false;
  document.title = `${title} – ${TITLE}`;
  byId("trouble-title").focus();
}

/** Come to the form, with a word on what went wrong if anything did. */
function toForm(title = "", text = "") {
  end();
  if (location.hash) history.pushState(null, "", location.pathname);
  show("send-form");
  if (title) trouble(title, text);
}

function toKey(text = "") {
  end();
  show("key-form", "API key");
  byId("key").value = "";
  byId("key-wrong").textContent = text;
  byId("key").focus();
}

/** End what goes on in this page; the job on the server goes on. */
function end() {
  sending?.abort();
  sending = null;
  evidence?.close();
  evidence = null;
  copies.forEach((copy) => URL.revokeObjectURL(copy));
  copies = [];
}

/** Handle what a call of the server threw. */
function failed(error, title) {
  if (error.name === "AbortError") return;
  if (error.status === 401) toKey(api.getKey() ? "The server does not know this key." : "");
  else if (error.status === 404) toForm("There is no such analysis", "It is forgotten, or belongs to another key.");
  else if (error.status === 410) toForm("The results are gone", "They were kept for a while only: send the video again.");
  else if (error instanceof api.ApiError) {
    const later = error.retryAfter ? ` Try again in ${lasting(Number(error.retryAfter))}.` : "";
    toForm(title, sentence(error.message) + later);
  } else {
    toForm(title, "The page failed; load it again.");
    throw error;
  }
}

const sentence = (text) => {
  const line = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(line) ? line : `${line}.`;
};

// --- choosing and sending ---

function tellLimits() {
  const { max_upload_bytes, max_duration_s, max_side, kept_s, explains } = limits;
  byId("told").textContent =
    `Up to ${bytes(max_upload_bytes)}, ${lasting(max_duration_s)}, ${max_side} pixels a side; ` +
    "MP4, MOV, MKV, WebM, AVI and other usual formats.";
  byId("kept").textContent = `after ${lasting(kept_s)}`;
  if (explains) return;
  byId("explain").checked = false;
  byId("explain").disabled = true;
  byId("explain-told").textContent = "Heat maps cannot be made: the model of this server has none";
}

function chosenFile() {
  const file = byId("file").files[0] ?? null;
  byId("chosen").textContent = file ? `${printable(file.name)} (${bytes(file.size)})` : "";
  byId("file-wrong").textContent = file ? wrongWith(file) : "";
  return file;
}

function wrongWith(file) {
  if (file.size === 0) return "This file is empty.";
  if (file.size > limits.max_upload_bytes) {
    return `This file has ${bytes(file.size)}; ${bytes(limits.max_upload_bytes)} are the most. Cut it, or make it smaller.`;
  }
  return "";
}

/** Take marks out of a name that would turn or hide the text around it. */
const printable = (name) => name.replace(/[\p{Cc}\p{Cf}]/gu, "\u25a1");

async function submit(event) {
  event.preventDefault();
  const file = chosenFile();
  if (!file) byId("file-wrong").textContent = "Choose a video first.";
  if (!file || wrongWith(file)) return byId("file").focus();
  end();
  sending = new AbortController();
  const { signal } = sending;
  toWork(printable(file.name));
  stage("upload", "Uploading");
  try {
    const job = await api.send(file, byId("explain").checked, uploading, signal);
    remember(job.id, printable(file.name));
    history.pushState(null, "", `#job=${job.id}`);
    byId("file").value = "";
    chosenFile();
    await follow(job, signal);
  } catch (error) {
    failed(error, "The video was not taken");
  }
}

function uploading(done, total) {
  progress(done, total);
  byId("work-text").textContent =
    done < total ? `Uploading: ${bytes(done)} of ${bytes(total)}` : "The server is storing the video";
}

function remember(job, name) {
  names.set(job, name);
  sessionStorage.setItem("forgery-names", JSON.stringify([...names].slice(-20)));
}

// --- waiting ---

function toWork(name) {
  show("work", "Analysing");
  byId("work-name").textContent = name;
  byId("work-note").textContent = "";
  byId("work-title").focus();
}

function stage(name, text) {
  const here = STAGES.indexOf(name);
  for (const item of byId("stages").children) {
    const place = STAGES.indexOf(item.dataset.stage);
    item.dataset.state = place < here ? "done" : place === here ? "now" : "later";
    if (place === here) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  }
  if (byId("work-text").dataset.stage !== text) say(text);
  byId("work-text").dataset.stage = text;
  byId("work-text").textContent = text;
  byId("bar").removeAttribute("value");
}

function progress(done, total) {
  if (total > 0) byId("bar").value = done / total;
  else byId("bar").removeAttribute("value");
}

function showState(job) {
  if (job.state === "queued") {
    const before = job.position ?? 0;
    stage("queue", before ? `Waiting: ${before} ${before === 1 ? "video is" : "videos are"} before yours` : "Waiting: yours is next");
    return;
  }
  const { phase = "starting", done = 0, total = 0 } = job.progress ?? {};
  const name = /writ|result/.test(phase) ? "write" : /scor|expl|map/.test(phase) ? "score" : "faces";
  const text = sentence(phase).slice(0, -1);
  stage(name, text);
  progress(done, total);
  if (total > 0) byId("work-text").textContent = `${text}: ${done} of ${total}`;
}

/** Look at a job until it ends, then show how it ended. */
async function follow(job, signal) {
  while (!FINAL.has(job.state)) {
    showState(job);
    byId("work-note").textContent = "You may leave: the address of this page leads back here.";
    await wait(LOOK_MS, signal);
    try {
      job = await api.askJson(`jobs/${job.id}`, { signal });
    } catch (error) {
      const passing = error.status === 0 || error.status === 429 || error.status === 503;
      if (!passing) throw error;
      byId("work-note").textContent = `${sentence(error.message)} Trying again.`;
      await wait(LOST_MS, signal);
    }
  }
  if (job.state === "done") return toResult(job, signal);
  if (job.state === "failed") return toForm("The analysis failed", sentence(job.error?.message ?? "no reason was given"));
  if (job.state === "expired") return toForm("The results are gone", "They were kept for a while only: send the video again.");
  return toForm("The analysis was cancelled", "Nothing of it is kept.");
}

async function cancel() {
  const job = jobOfAddress();
  end();
  try {
    if (job) await api.ask(`jobs/${job}`, { method: "DELETE" });
    toForm();
    say("The analysis was cancelled.");
    byId("file").focus();
  } catch (error) {
    failed(error, "The analysis could not be cancelled");
  }
}

// --- the result ---

async function toResult(job, signal) {
  stage("write", "Loading the results");
  const report = await api.askJson(job.links.report, { signal });
  const people = peopleOf(report);
  show("result", "Result");
  byId("result-name").textContent = names.get(job.id) ?? "the video";
  const until = job.expires_at ? new Date(job.expires_at).toLocaleTimeString([], { timeStyle: "short" }) : "";
  byId("result-until").textContent = until ? `; kept until ${until}` : "";
  showReport(report, people);
  fillPeople(report, people, (person, shown) => evidence?.show(person, shown));
  fillDownloads(filesOf(job), api.getKey() ? download : null);
  byId("verdict-title").focus();
  say(`${byId("verdict-title").textContent}. ${byId("verdict-why").textContent}`);
  const files = {
    links: job.links,
    json: (path) => api.askJson(path, { signal }),
    address: (path) => copyOf(path, signal),
  };
  evidence = new Evidence(report, people, files, say);
  const source = job.links.video ? await copyOf(job.links.video, signal) : null;
  byId("video").hidden = !source;
  byId("video-note").textContent = source
    ? "Boxes show the score of each face: blue looks real to the model, orange forged; the number stands beside it."
    : "There is no annotated video of this analysis.";
  await evidence.open(source);
}

/** Results with a file name, in the order of the page. */
function filesOf(job) {
  const named = {
    report: "report.json", segments: "segments.csv", subtitles: "segments.vtt",
    video: "annotated.mp4", timeline: "timeline.png", moments: "moments.png",
  };
  return Object.entries(named)
    .filter(([name]) => name in job.links)
    .map(([name, file]) => ({ file, path: job.links[name] }));
}

async function copyOf(path, signal) {
  const found = await api.address(path, signal);
  if (found !== path) copies.push(found);
  return found;
}

async function download(event, path, file) {
  event.preventDefault();
  try {
    const link = document.createElement("a");
    link.href = await copyOf(path);
    link.download = file;
    link.click();
  } catch (error) {
    failed(error, "The file could not be fetched");
  }
}

async function remove() {
  const job = jobOfAddress();
  const dialog = byId("sure");
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (dialog.returnValue !== "yes" || !job) return;
  try {
    await api.ask(`jobs/${job}`, { method: "DELETE" });
    toForm();
    say("The results were deleted.");
    byId("file").focus();
  } catch (error) {
    failed(error, "The results could not be deleted");
  }
}

// --- beginning ---

const jobOfAddress = () => /^#job=([a-z0-9-]{1,64})$/.exec(location.hash)?.[1] ?? null;

/** Show what the address asks for. */
async function route() {
  end();
  const job = jobOfAddress();
  if (!job) return show("send-form");
  sending = new AbortController();
  const { signal } = sending;
  toWork(names.get(job) ?? "");
  try {
    await follow(await api.askJson(`jobs/${job}`, { signal }), signal);
  } catch (error) {
    failed(error, "The results could not be shown");
  }
}

async function useKey(event) {
  event.preventDefault();
  api.setKey(byId("key").value.trim());
  try {
    await api.ask(`jobs/${"0".repeat(32)}`);
  } catch (error) {
    // a key that is known is told that there is no such job
    if (error.status !== 404) {
      api.forgetKey();
      return toKey(error.status === 401 ? "The server does not know this key." : sentence(error.message));
    }
  }
  await route();
}

function dropped(event) {
  event.preventDefault();
  byId("drop").classList.remove("over");
  const [file] = event.dataTransfer?.files ?? [];
  if (!file) return;
  const files = new DataTransfer();
  files.items.add(file);
  byId("file").files = files.files;
  chosenFile();
  byId("send-form").querySelector("button[type=submit]").focus();
}

function listen() {
  byId("send-form").addEventListener("submit", submit);
  byId("send-form").noValidate = true;
  byId("file").addEventListener("change", chosenFile);
  byId("key-form").addEventListener("submit", useKey);
  byId("cancel").addEventListener("click", cancel);
  byId("again").addEventListener("click", () => { toForm(); byId("file").focus(); });
  byId("remove").addEventListener("click", remove);
  byId("forget-key").addEventListener("click", () => { api.forgetKey(); toKey(); });
  // a file that misses its place must not replace the page
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
  byId("drop").addEventListener("dragover", () => byId("drop").classList.add("over"));
  byId("drop").addEventListener("dragleave", () => byId("drop").classList.remove("over"));
  byId("drop").addEventListener("drop", dropped);
  window.addEventListener("popstate", route);
}

async function begin() {
  listen();
  names = new Map(JSON.parse(sessionStorage.getItem("forgery-names") ?? "[]"));
  try {
    limits = await api.askJson("limits");
  } catch (error) {
    return trouble("The server cannot be used", sentence(error.message));
  }
  tellLimits();
  if (limits.needs_key && !api.getKey()) return toKey();
  return route();
}

begin();
