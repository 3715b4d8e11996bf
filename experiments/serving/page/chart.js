// The timeline, drawn by plotly.js, which comes with the Python package plotly.

import { clock, isNumber } from "./dom.js";
import { curveOf, thinned } from "./report.js";

/** Points of a curve that a chart of this width can show, lowest and highest of each place. */
const PLACES = 900;
/** Seconds between ticks. */
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
/** Room for a tick's text in pixels. */
const TICK_ROOM = 85;

let loading = null;

/** Load plotly.js once, when the first chart is shown. */
function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "static/plotly.min.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      loading = null;
      reject(new Error("the chart could not be loaded"));
    };
    document.head.append(script);
  });
  return loading;
}

/** A chart of frame scores. */
export class Chart {
  /**
   * @param {HTMLElement} place where it is drawn
   * @param {HTMLElement} line marks the moment, beside it in an element that it fills
   * @param {Object} content duration in seconds, people, and limit (score, fitted)
   * @param {{jump: (time: number) => void, zoomed: (closer: boolean) => void}} calls what it tells
   */
  constructor(place, line, content, calls) {
    this.place = place;
    this.line = line;
    line.hidden = true;
    this.content = content;
    this.calls = calls;
    this.model = null;
    this.hidden = new Set();
    this.time = 0;
    this.range = [0, content.duration];
    this.plotly = null;
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.again = () => this.render();
  }

  /** Draw it for the first time. */
  async open() {
    this.plotly = await plotly();
    await this.render();
    this.place.on("plotly_click", ({ event }) => this.calls.jump(this.#timeAt(event.clientX)));
    this.place.on("plotly_afterplot", () => this.mark(this.time));
    this.place.on("plotly_relayout", (change) => this.#ranged(change));
    this.dark.addEventListener("change", this.again);
  }

  /** Take it away. */
  close() {
    this.dark.removeEventListener("change", this.again);
    this.plotly?.purge(this.place);
    this.plotly = null;
  }

  /** Choose whose curves are shown, and by which model (null: the mean). */
  choose(model, hidden) {
    this.model = model;
    this.hidden = hidden;
    return this.render();
  }

  /** Show the whole video. */
  whole() {
    this.#show([0, this.content.duration]);
  }

  /** Move the line that marks the moment; it lies over the chart, which need not be drawn again. */
  mark(time) {
    this.time = time;
    const [from, to] = this.range;
    const area = this.#area();
    this.line.hidden = !area || time < from || time > to;
    if (this.line.hidden) return;
    const left = area.left - this.line.parentElement.getBoundingClientRect().left;
    this.line.style.left = `${left + ((time - from) / (to - from)) * area.width}px`;
  }

  /** Draw everything again. */
  async render() {
    if (!this.plotly) return;
    // two quick clicks are two moments; a button shows the whole video again
    const config = {
      displayModeBar: false, responsive: true, doubleClick: false, doubleClickDelay: 0, showTips: false,
    };
    await this.plotly.react(this.place, this.#curves(), this.#layout(), config);
  }

  /** Where the curves are: the part of the chart that takes the pointer. */
  #area() {
    return this.place.querySelector(".nsewdrag")?.getBoundingClientRect() ?? null;
  }

  /** Of the pointer itself: plotly.js tells where it last hovered, which a tap outruns. */
  #timeAt(pointer) {
    const area = this.#area();
    const [from, to] = this.range;
    const time = from + ((pointer - area.left) / area.width) * (to - from);
    return Math.min(Math.max(time, 0), this.content.duration);
  }

  #ranged(change) {
    const from = change["xaxis.range[0]"] ?? change["xaxis.range"]?.[0];
    const to = change["xaxis.range[1]"] ?? change["xaxis.range"]?.[1];
    if (!isNumber(from) || !isNumber(to)) return;
    const { duration } = this.content;
    this.#show([Math.max(0, from), Math.min(duration, Math.max(to, from + 1e-3))]);
  }

  #show(range) {
    this.range = range;
    this.calls.zoomed(range[0] > 0 || range[1] < this.content.duration);
    this.render();
  }

  #curves() {
    const ink = this.#colour("--ink");
    return this.content.people
      .filter(({ person }) => !this.hidden.has(person))
      .map((person) => {
        const { x, y } = thinned(curveOf(person, this.model), ...this.range, PLACES);
        const colour = person.colour === "ink" ? ink : person.colour;
        // a frame between gaps makes no line
        const alone = y.map((value, i) =>
          isNumber(value) && !isNumber(y[i - 1]) && !isNumber(y[i + 1]) ? 6 : 0,
        );
        return {
          type: "scatter",
          mode: "lines+markers",
          name: `Person ${person.person}`,
          x,
          y,
          connectgaps: false,
          line: { color: colour, width: 2, dash: person.dash },
          marker: { size: alone, color: colour, line: { width: 0 } },
          hovertemplate: "%{y:.3f}",
        };
      });
  }

  #layout() {
    const ink = this.#colour("--ink");
    const soft = this.#colour("--soft");
    const line = this.#colour("--line");
    const { limit } = this.content;
    const named = limit?.fitted ? "threshold" : "middle of the scale";
    return {
      ...this.#frame(ink, line),
      hovermode: this.hidden.size < this.content.people.length ? "x unified" : false,
      shapes: limit
        ? [
            {
              type: "line", layer: "above", line: { color: soft, width: 1.5, dash: "dash" },
              xref: "paper", x0: 0, x1: 1, y0: limit.score, y1: limit.score,
            },
          ]
        : [],
      annotations: limit
        ? [
            {
              xref: "paper", x: 1, xanchor: "right", y: limit.score, yanchor: "bottom",
              text: `${named} ${limit.score.toFixed(2)}`, showarrow: false,
              font: { size: 12, color: ink }, bgcolor: this.#colour("--card"), borderpad: 1,
            },
          ]
        : [],
    };
  }

  #frame(ink, line) {
    const quiet = { gridcolor: line, zeroline: false, linecolor: line, showline: true };
    return {
      autosize: true,
      margin: { l: 44, r: 12, t: 10, b: 34 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 13, color: ink },
      hoverlabel: { bgcolor: this.#colour("--card"), bordercolor: line, font: { color: ink } },
      showlegend: false,
      clickanywhere: true,
      // a finger scrolls the page, a mouse marks a stretch
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      xaxis: {
        ...quiet, ...this.#ticks(), range: [...this.range],
        unifiedhovertitle: { text: "%{x:.2f} s" },
      },
      yaxis: {
        ...quiet, range: [-0.03, 1.03], fixedrange: true, tickvals: [0, 0.25, 0.5, 0.75, 1],
        title: { text: "score", standoff: 4 },
      },
    };
  }

  #ticks() {
    const [from, to] = this.range;
    const most = Math.max(2, Math.floor(this.place.clientWidth / TICK_ROOM));
    const step = STEPS.find((s) => (to - from) / s <= most) ?? STEPS.at(-1);
    const first = Math.ceil(from / step - 1e-9);
    const count = Math.floor((to - from) / step + 1e-9) + 1;
    const tickvals = Array.from({ length: count }, (_, i) => (first + i) * step);
    const ticktext = tickvals.map((time) => clock(time, step < 1 ? 1 : 0));
    return { tickmode: "array", tickvals, ticktext };
  }

  #colour(name) {
    return getComputedStyle(this.place).getPropertyValue(name).trim();
  }
}
