// Heat maps: pictures of single moments, where the job has them (moments.json names them).

import { byId, clock, make, score } from "./dom.js";

/** Moments this near, in seconds, are the one that is looked at. */
const HERE_S = 0.05;

export class Heat {
  /**
   * @param {{links: Object, json: (path) => Promise, address: (path) => Promise<string>}} files
   *   results of the job by name, and how they are fetched
   * @param {(time: number) => void} jump goes to a moment
   */
  constructor(files, jump) {
    this.files = files;
    this.jump = jump;
    this.moments = [];
    this.shown = null;
    byId("heat").hidden = true;
  }

  /** Fetch the moments, if there are any. */
  async open() {
    const path = this.files.links["moments.json"];
    if (!path) return;
    const { limits, moments } = await this.files.json(path);
    this.moments = moments
      .filter((moment) => moment.image in this.files.links)
      .sort((one, other) => one.time_s - other.time_s);
    this.several = new Set(this.moments.map(({ model }) => model)).size > 1;
    if (!this.moments.length) return;
    byId("heat-limits").replaceChildren(...limits.map((text) => make("li", {}, text)));
    await Promise.all(this.moments.map(async (moment) => {
      moment.address = await this.files.address(this.files.links[moment.image]);
    }));
    byId("heat-strip").replaceChildren(...this.moments.map((moment) => this.#thumb(moment)));
    byId("heat").hidden = false;
  }

  /** Show the moment nearest to a time. */
  show(time) {
    const away = (moment) => Math.abs(moment.time_s - time);
    const [first] = [...this.moments].sort((one, other) => away(one) - away(other));
    if (!first) return;
    // of those at the same time the one that was asked for
    const nearest = this.shown && away(this.shown) <= away(first) + 1e-3 ? this.shown : first;
    this.#present(nearest, time);
  }

  #present(moment, time) {
    const near = Math.abs(moment.time_s - time);
    const blank = moment.curve.every((share) => share === 0);
    byId("heat-text").textContent =
      `${told(moment)}. ${blank ? "Nothing is marked: no place of the face raised the score. " : ""}${near <= HERE_S ? "It is this moment." : `The mapped moment nearest to this one, ${near.toFixed(1)} s away.`}`;
    if (moment === this.shown) return;
    this.shown = moment;
    byId("heat-image").src = moment.address;
    byId("heat-image").alt = `The face without and with its heat map: ${told(moment)}`;
    [...byId("heat-strip").children].forEach((item, i) => {
      const here = this.moments[i] === moment;
      if (here) item.firstElementChild.setAttribute("aria-current", "true");
      else item.firstElementChild.removeAttribute("aria-current");
    });
  }

  /** Take them away. */
  close() {
    byId("heat").hidden = true;
    byId("heat-image").removeAttribute("src");
    byId("heat-strip").replaceChildren();
  }

  #thumb(moment) {
    const button = make("button", { type: "button" },
      make("span", {}, clock(moment.time_s)),
      make("span", { class: "small" }, `Person ${moment.person}, ${score(moment.score)}`),
      this.several ? make("span", { class: "small break" }, moment.model) : null);
    button.addEventListener("click", () => {
      this.jump(moment.time_s);
      this.#present(moment, moment.time_s);
    });
    return make("li", {}, button);
  }
}

const told = (moment) =>
  `Person ${moment.person} at ${clock(moment.time_s)}, score of the clip ${score(moment.score)}, by ${moment.model}`;
