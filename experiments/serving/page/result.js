// Writes a report into the page.

import { byId, clock, draw, fillPairs, fillTable, isNumber, make, score } from "./dom.js";
import { swatch } from "./evidence.js";

// A warning, an arrow below a line, a dash: the shape tells what the colour tells. No tick: a low
// score does not prove a video genuine.
const SIGNS = {
  fake: "M24 5 45 42H3ZM24 18v12M24 35v2",
  real: "M24 4a20 20 0 1 0 .1 0M13 16h22M24 21v14m-6-6 6 6 6-6",
  none: "M24 4a20 20 0 1 0 .1 0M14 24h20",
};
const NAMES = {
  "report.json": "Report, with all scores",
  "segments.csv": "Stretches above the line, as a table",
  "segments.vtt": "Stretches above the line, as subtitles",
  "annotated.mp4": "Annotated video",
  "timeline.png": "Scores over time, as a picture",
  "moments.png": "Heat maps of the most telling moments",
};

/** Tell in words what was decided. */
export function verdictOf(report) {
  const { call, reason, operating_point: point } = report.decision;
  const value = score(report.calibrated_probability ?? report.video_score);
  if (report.status === "no_face") {
    return { kind: "none", title: "No face found", why: "Nothing was judged, which says nothing about the video." };
  }
  if (call === "abstain") {
    const near = point ? ` (no call is made from ${point.abstain_range.map(score).join(" to ")})` : "";
    const title = point ? "No decision" : "No decision: score only";
    return { kind: "none", title, why: `${sentence(reason ?? "no call was made")}${near}.` };
  }
  const what = point.calibration === "none" ? "score" : "calibrated score";
  const side = call === "fake" ? "reaches" : "stays below";
  const why = `The ${what} of ${value} ${side} the threshold of ${score(point.threshold)}.`;
  return { kind: call, title: call === "fake" ? "Decision: fake" : "Decision: real", why };
}

/** Write the parts of a report that do not move. */
export function showReport(report, people) {
  const verdict = verdictOf(report);
  byId("verdict").dataset.kind = verdict.kind;
  byId("sign").firstElementChild.setAttribute("d", SIGNS[verdict.kind]);
  byId("verdict-title").textContent = verdict.title;
  byId("verdict-why").textContent = verdict.why;
  byId("scale").replaceChildren(...(isNumber(report.video_score) ? scale(report) : []));
  fillPairs(byId("figures"), figures(report, people));
  byId("caution").hidden = !report.reason;
  byId("caution").textContent = report.reason ? `${sentence(report.reason)}.` : "";
  byId("limits").replaceChildren(...report.limits.map((text) => make("li", {}, sentence(text))));
  fillModels(report);
  fillPairs(byId("about"), about(report));
  fillDropped(report);
}

/** Fill the table of people; `shown` is called when one is shown or hidden. */
export function fillPeople(report, people, shown) {
  const several = report.models.length > 1;
  const names = several ? report.models.map(({ name }) => name) : [];
  const head = ["Person", several ? "Mean score" : "Score", ...names, "Seen"];
  const rows = people.map((person) => {
    const box = make("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => shown(person.person, box.checked));
    const label = make("label", { class: "show" }, box, swatch(person), ` Person ${person.person}`);
    const own = names.map((name) => score(person.models.find((m) => m.name === name)?.score));
    return [label, score(person.score), ...own, seen(report, person)];
  });
  fillTable(byId("people"), head, rows);
}

/** List what can be downloaded; `fetchFile` is called where a link alone does not do. */
export function fillDownloads(files, fetchFile) {
  byId("downloads").replaceChildren(...files.map(({ file, path }) => {
    const link = make("a", { href: path, download: file }, file);
    if (fetchFile) link.addEventListener("click", (event) => fetchFile(event, path, file));
    return make("li", {}, link, make("span", { class: "small" }, NAMES[file] ?? ""));
  }));
}

function figures(report, people) {
  const limit = report.threshold;
  const calibrated = report.decision.operating_point?.calibration !== "none";
  return [
    ["Score, 0 to 1", score(report.video_score)],
    ["Calibrated", calibrated && isNumber(report.calibrated_probability) ? score(report.calibrated_probability) : "no"],
    ["Threshold", limit?.fitted ? score(limit.score) : "none"],
    ["People", String(people.length)],
  ];
}

function scale(report) {
  const at = (value) => 20 + 960 * Math.min(1, Math.max(0, value));
  const limit = report.threshold;
  const here = at(report.video_score);
  const svg = draw("svg", { viewBox: "0 0 1000 76", class: "scale", "aria-hidden": "true" },
    draw("rect", { x: 20, y: 34, width: 960, height: 20, rx: 10, class: "scale-back" }),
    ...[0.25, 0.5, 0.75].map((v) => draw("line", { x1: at(v), x2: at(v), y1: 36, y2: 52, class: "scale-tick" })),
    ...(limit?.fitted ? [draw("line", { x1: at(limit.score), x2: at(limit.score), y1: 24, y2: 64, class: "scale-limit" })] : []),
    draw("path", { d: `M${here} 32l-15-24h30zM${here} 32v24`, class: "scale-mark" }));
  const ends = make("p", { class: "ends small" }, make("span", {}, "0 looks real"),
    limit?.fitted ? make("span", {}, `dashed: threshold ${score(limit.score)}`) : null,
    make("span", {}, "1 looks forged"));
  return [svg, ends];
}

function fillModels(report) {
  const head = ["Model", "Method", "Score", "Calibrated", "Decision", "Weights (SHA-256)"];
  const rows = report.models.map((model) => [
    model.name,
    model.method,
    score(model.video_score),
    isNumber(model.calibrated_probability) ? score(model.calibrated_probability) : "–",
    model.decision.call === "abstain" ? `none: ${model.decision.reason ?? ""}` : model.decision.call,
    make("code", { title: model.checkpoint_sha256 }, model.checkpoint_sha256.slice(0, 12)),
  ]);
  if (report.average_of) {
    rows.push(["Mean of all", "", score(report.video_score), score(report.calibrated_probability), "none: a mean has no threshold", ""]);
  }
  fillTable(byId("models"), head, rows);
}

function about(report) {
  const { video } = report;
  return [
    ["Video", `${video.width} × ${video.height}, ${Number(video.fps.toFixed(2))} frames a second`],
    ["Length", `${clock(video.duration_s)}, ${video.num_frames} frames`],
    ["SHA-256 of the file", make("code", { class: "break" }, video.sha256)],
    ["Faces found by", `${report.settings.backend} ${report.settings.backend_version}`],
    ["Version of the code", make("code", { class: "break" }, report.code ?? "unknown")],
  ];
}

function fillDropped(report) {
  const part = byId("dropped");
  part.hidden = !report.dropped.length;
  part.open = false;
  part.querySelector("summary").textContent = "Frames without a followed face";
  part.querySelector("ul").replaceChildren(...report.dropped.map(({ first_frame, last_frame, reason }) =>
    make("li", {}, `Frames ${first_frame} to ${last_frame}: ${reason}`)));
}

function seen(report, person) {
  const ranges = report.persons.find((p) => p.person === person.person)?.time_ranges_s ?? [];
  const texts = ranges.slice(0, 3).map(([from, to]) => `${clock(from)}–${clock(to)}`);
  return texts.join(", ") + (ranges.length > 3 ? ` and ${ranges.length - 3} more` : "");
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
