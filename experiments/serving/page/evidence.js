// Video, timeline and the moment that both show.

import { Chart } from "./chart.js";
import { byId, clock, make, draw, isNumber, score } from "./dom.js";
import { facesAt, frameAt, frameBeside, stretchesOf } from "./report.js";
import { Heat } from "./heat.js";

/** Milliseconds between looks at a running video: the eye wants no more. */
const LOOK_MS = 120;
/** Stretches listed; segments.csv has all. */
const MOST_STRETCHES = 60;
/** How much of a face's surroundings its picture shows, in sizes of its box. */
const AROUND = 0.35;
const FACE_SIZE = 112;

/** The evidence of one report. */
export class Evidence {
  /**
   * @param {Object} report report.json
   * @param {Array} people of `peopleOf`
   * @param {Object} files results of the job, see `Heat`
   * @param {(text: string) => void} say tells a screen reader
   */
  constructor(report, people, files, say) {
    this.report = report;
    this.people = people;
    this.say = say;
    this.step = 1 / (report.video.fps || 25);
    this.duration = report.video.duration_s;
    this.time = 0;
    this.model = null;
    this.hidden = new Set();
    this.ended = new AbortController();
    this.video = byId("video");
    this.heat = new Heat(files, (time) => this.jump(time));
    const content = { duration: this.duration, people, limit: report.threshold ?? null };
    this.chart = new Chart(byId("chart"), byId("now"), content, {
      jump: (time) => this.jump(time),
      zoomed: (closer) => (byId("whole").hidden = !closer),
    });
  }

  /**
   * Show it, at its most telling moment.
   * @param {?string} source address of the video
   */
  open(source) {
    this.#listen();
    if (source) this.video.src = source;
    byId("moment").max = String(this.duration);
    byId("whole").hidden = true;
    this.#listStretches();
    this.#chooseModel();
    const open = this.chart.open().catch(() => {
      byId("chart").replaceChildren(
        make("p", { class: "notice warn" }, "The chart could not be loaded; all else works."),
      );
    });
    this.#move(this.#firstTime());
    this.#seek();
    const heat = this.heat.open().then(() => this.heat.show(this.time));
    return Promise.all([open, heat]);
  }

  /** Take it away. */
  close() {
    this.ended.abort();
    this.chart.close();
    this.heat.close();
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }

  /** Show or hide a person's curve. */
  show(person, shown) {
    if (shown) this.hidden.delete(person);
    else this.hidden.add(person);
    this.chart.choose(this.model, this.hidden);
  }

  /** Go to a moment, and say what is there. */
  jump(time) {
    this.#move(this.#frameAt(time));
    this.#seek();
    this.say(`${clock(this.time)}. ${this.#told()}`);
  }

  #firstTime() {
    const [top] = this.#stretches().sort((one, other) => other.top - one.top);
    return top?.peak ?? this.people[0]?.tracks[0]?.frames.time_s[0] ?? 0;
  }

  #listen() {
    const { signal } = this.ended;
    const on = (id, event, call) => byId(id).addEventListener(event, call, { signal });
    on("moment", "input", () => this.#scrub());
    on("moment", "change", () => this.jump(Number(byId("moment").value)));
    on("moment", "keydown", (event) => this.#key(event));
    on("back", "click", () => this.jump(this.#beside(false)));
    on("next", "click", () => this.jump(this.#beside(true)));
    on("whole", "click", () => this.chart.whole());
    on("curve", "change", () => {
      this.model = byId("curve").value || null;
      this.chart.choose(this.model, this.hidden);
      this.#listStretches();
      this.#move(this.time);
    });
    for (const event of ["seeked", "loadeddata", "pause"]) on("video", event, () => this.#look());
    on("video", "play", () => this.#follow());
    on("video", "error", () => {
      byId("video-note").textContent =
        "This browser cannot play the annotated video; download it below. All else works.";
    });
  }

  #key(event) {
    const far = Math.max(1, this.duration / 20);
    const [back, next] = [this.#beside(false), this.#beside(true)];
    const moves = {
      ArrowLeft: back, ArrowDown: back, ArrowRight: next, ArrowUp: next,
      PageDown: this.time - far, PageUp: this.time + far, Home: -Infinity, End: Infinity,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    this.jump(moves[event.key]);
  }

  #scrub() {
    this.#move(Number(byId("moment").value));
    this.#seek();
  }

  /** Follow a running video. */
  #follow() {
    const again = () => {
      if (this.video.paused || this.ended.signal.aborted) return;
      this.#look();
      setTimeout(again, LOOK_MS);
    };
    again();
  }

  #look() {
    if (this.ended.signal.aborted) return;
    const time = this.video.currentTime;
    // the player landed where it was sent: the same frame, whose picture may be new
    const same = Math.abs(time - this.#inside()) < this.step / 2;
    this.#move(same ? this.time : time);
  }

  #frameAt(time) {
    return frameAt(this.people, time, this.step);
  }

  /** When the next frame begins, or the one before. */
  #beside(after) {
    return frameBeside(this.people, this.time, this.step, after);
  }

  /** A quarter of a frame after its beginning, so that rounding never shows the one before. */
  #inside() {
    return Math.min(this.time + this.step / 4, this.duration);
  }

  #seek() {
    const time = this.#inside();
    if (Math.abs(this.video.currentTime - time) > 1e-4) this.video.currentTime = time;
  }

  #move(time) {
    this.time = Math.min(Math.max(0, time), Math.max(0, this.duration - this.step / 2));
    const slider = byId("moment");
    slider.value = String(this.time);
    const faces = facesAt(this.people, this.time, this.model);
    slider.setAttribute("aria-valuetext", `${clock(this.time)}. ${this.#told(faces)}`);
    byId("clock").textContent = `${clock(this.time, 2)} of ${clock(this.duration, 2)}`;
    this.chart.mark(this.time);
    this.#showFaces(faces);
    this.heat.show(this.time);
  }

  #told(faces = facesAt(this.people, this.time, this.model)) {
    if (!faces.length) return "No face in this frame.";
    return faces.map((face) => `Person ${face.person.person}: ${score(face.score)}`).join(". ");
  }

  #showFaces(faces) {
    const frame = faces[0]?.frame ?? Math.floor(this.time / this.step + 0.01);
    byId("moment-text").textContent = faces.length
      ? `${clock(this.time, 2)}, frame ${frame}`
      : `${clock(this.time, 2)}: no scored face in this frame, so nothing was judged here.`;
    byId("faces").replaceChildren(...faces.map((face) => this.#card(face)));
  }

  #card(face) {
    const limit = this.report.threshold;
    const side = !isNumber(face.score) ? "not scored in this frame"
      : !limit ? ""
      : face.score >= limit.score ? "above the line" : "below the line";
    const models = this.report.models.length > 1
      ? face.models.map(([name, value]) => make("li", {}, `${name}: ${score(value)}`))
      : [];
    return make("li", { class: "face" },
      this.#picture(face.box),
      make("div", {},
        make("p", { class: "face-name" }, swatch(face.person), ` Person ${face.person.person}`),
        make("p", { class: "face-score" }, score(face.score)),
        make("p", { class: "small" }, side),
        models.length ? make("ul", { class: "small plain" }, ...models) : null));
  }

  #picture([left, top, right, bottom]) {
    const canvas = make("canvas", { width: FACE_SIZE, height: FACE_SIZE, "aria-hidden": "true" });
    if (this.video.readyState < 2) return canvas;
    const scale = this.video.videoWidth / this.report.video.width;
    const size = Math.max(right - left, bottom - top) * (1 + 2 * AROUND) * scale;
    const x = ((left + right) / 2) * scale - size / 2;
    const y = ((top + bottom) / 2) * scale - size / 2;
    canvas.getContext("2d").drawImage(this.video, x, y, size, size, 0, 0, FACE_SIZE, FACE_SIZE);
    return canvas;
  }

  #stretches() {
    const limit = this.report.threshold;
    if (!limit) return [];
    return stretchesOf(this.people, limit.score, this.model, this.report.video.fps);
  }

  #listStretches() {
    const all = this.#stretches();
    const shown = [...all].sort((one, other) => other.top - one.top).slice(0, MOST_STRETCHES);
    shown.sort((one, other) => one.start - other.start);
    byId("stretches").replaceChildren(...shown.map((stretch) => {
      const text = `${clock(stretch.start, 2)} to ${clock(stretch.end, 2)}`;
      const who = `Person ${stretch.person.person}, up to ${score(stretch.top)}`;
      const button = make("button", { type: "button" }, swatch(stretch.person),
        make("span", {}, text), make("span", { class: "small" }, who));
      button.addEventListener("click", () => this.jump(stretch.peak));
      return make("li", {}, button);
    }));
    const limit = this.report.threshold;
    byId("stretch-title").hidden = !limit;
    const line = limit?.fitted ? "the threshold" : "the middle of the scale, which is no threshold";
    byId("stretch-text").textContent = !limit ? ""
      : !all.length ? `No frame reaches the line, which is ${line}.`
      : shown.length < all.length
        ? `The ${shown.length} strongest of ${all.length}; segments.csv has all. The line is ${line}.`
        : `The line is ${line}.`;
  }

  #chooseModel() {
    const names = this.report.models.map(({ name }) => name);
    byId("curve-label").hidden = names.length < 2;
    byId("curve").replaceChildren(
      make("option", { value: "" }, "the mean of all"),
      ...names.map((name) => make("option", { value: name }, name)),
    );
  }
}

/** A stroke in the colour and dash of a person's curve. */
export function swatch(person) {
  const dash = { solid: null, dash: "6 4", dot: "2 3", dashdot: "7 3 2 3" }[person.dash];
  return draw("svg", { class: "swatch", viewBox: "0 0 26 12", width: 26, height: 12, "aria-hidden": "true" },
    draw("line", {
      x1: 1, x2: 25, y1: 6, y2: 6, "stroke-width": 4, "stroke-dasharray": dash,
      stroke: person.colour === "ink" ? "currentColor" : person.colour,
    }));
}
