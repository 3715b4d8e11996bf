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
    this.moments = moments.filter((moment) => moment.image in this.files.links);
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
    const [nearest] = [...this.moments].sort((one, other) => away(one) - away(other));
    if (!nearest) return;
    const near = away(nearest);
    byId("heat-text").textContent =
      `${told(nearest)}. ${near <= HERE_S ? "It is this moment." : `The mapped moment nearest to this one, ${near.toFixed(1)} s away.`}`;
    if (nearest === this.shown) return;
    this.shown = nearest;
    byId("heat-image").src = nearest.address;
    byId("heat-image").alt = `The face without and with its heat map: ${told(nearest)}`;
    [...byId("heat-strip").children].forEach((item, i) => {
      const here = this.moments[i] === nearest;
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
      make("span", { class: "small" }, `Person ${moment.person}, ${score(moment.score)}`));
    button.addEventListener("click", () => this.jump(moment.time_s));
    return make("li", {}, button);
  }
}

const told = (moment) =>
  `Person ${moment.person} at ${clock(moment.time_s)}, score of the clip ${score(moment.score)}, by ${moment.model}`;
