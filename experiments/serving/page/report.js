// Reads report.json: pure functions of it, without the page.

import { isNumber } from "./dom.js";

// Okabe and Ito, "Color Universal Design", 2008: those of timeline.png, told apart with any vision.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "ink"];
const DASHES = ["solid", "dash", "dot", "dashdot"];

/** Frames further apart than this many steps of the video are not joined. */
const JOINED = 1;

/**
 * List the people with their curves.
 * @returns {Array} number, score, scores by model, colour, dash and tracks of each
 */
export function peopleOf(report) {
  return report.persons.map(({ person, score, models }, place) => ({
    person,
    score,
    models: models ?? [],
    colour: COLOURS[place % COLOURS.length],
    dash: DASHES[Math.floor(place / COLOURS.length) % DASHES.length],
    tracks: report.tracks
      .filter((track) => track.person === person)
      .sort((one, other) => one.frame_range[0] - other.frame_range[0]),
  }));
}

/** Give the frame scores of a track: by one of several models, or their mean (model null). */
export function frameScores(track, model) {
  const own = model === null ? null : track.models.find(({ name }) => name === model);
  return own?.frame_score ?? track.frames.score;
}

/**
 * Give a person's curve, with null where frames are missing.
 * @returns {{x: number[], y: Array<number|null>}} seconds and scores
 */
export function curveOf(person, model) {
  const x = [];
  const y = [];
  for (const track of person.tracks) {
    const scores = frameScores(track, model);
    const { frame, time_s: times } = track.frames;
    frame.forEach((number, row) => {
      if (x.length && (row === 0 || number - frame[row - 1] > JOINED)) {
        x.push(times[row]);
        y.push(null);
      }
      x.push(times[row]);
      y.push(scores[row]);
    });
  }
  return { x, y };
}

/**
 * Keep what can be seen of a curve: of each of `places` equal spans its lowest and highest point,
 * so that no peak of a long video is lost.
 */
export function thinned(curve, from, to, places) {
  const inside = curve.x.map((_, i) => i).filter((i) => curve.x[i] >= from && curve.x[i] <= to);
  if (inside.length <= 2 * places) return curve;
  const width = (to - from) / places;
  const kept = [];
  let low = null;
  let high = null;
  let place = null;
  const flush = () => {
    if (low === null) return;
    kept.push(...(low === high ? [low] : [Math.min(low, high), Math.max(low, high)]));
    low = high = null;
  };
  for (const i of inside) {
    const here = Math.floor((curve.x[i] - from) / width);
    if (here !== place || curve.y[i] === null) flush();
    place = here;
    if (curve.y[i] === null) kept.push(i);
    else {
      if (low === null || curve.y[i] < curve.y[low]) low = i;
      if (high === null || curve.y[i] > curve.y[high]) high = i;
    }
  }
  flush();
  return { x: kept.map((i) => curve.x[i]), y: kept.map((i) => curve.y[i]) };
}

/** Seconds that players land before the frame that they show. */
const EARLY = 1e-3;

/** Find the last row whose time is not after `time`, -1 if there is none. */
export function rowAt(times, time) {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= time + EARLY) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** List who is seen at a moment, with score, box and frame, and when that frame and its neighbours begin. */
export function facesAt(people, time, model) {
  return people.flatMap((person) =>
    person.tracks.flatMap((track) => {
      const { frame, time_s: times, box } = track.frames;
      const row = rowAt(times, time);
      const run = track.time_ranges_s.find(([from, to]) => from <= time + EARLY && time + EARLY < to);
      if (row < 0 || !run) return [];
      return {
        person,
        track: track.track,
        frame: frame[row],
        time: times[row],
        before: times[row] > run[0] ? times[row - 1] : null,
        end: Math.min(times[row + 1] ?? Infinity, run[1]),
        box: box[row],
        score: frameScores(track, model)[row],
        models: track.models.map((m) => [m.name, (m.frame_score ?? track.frames.score)[row]]),
      };
    }),
  );
}

/** Tell when the frame began that is shown at a time; those without a face are taken for regular. */
export function frameAt(people, time, step) {
  const [face] = facesAt(people, time, null);
  if (face) return face.time;
  const regular = Math.floor(time / step + 0.01) * step;
  return facesAt(people, regular, null).length ? time : regular;
}

/** Tell when the frame after the one that is shown at a time begins, or the one before it. */
export function frameBeside(people, time, step, after) {
  const [face] = facesAt(people, time, null);
  if (after) return face?.end ?? time + step;
  return face?.before ?? time - step;
}

/** List stretches of scored frames that reach a score, as segments.csv does. */
export function stretchesOf(people, limit, model, fps) {
  const found = [];
  for (const person of people) {
    for (const track of person.tracks) {
      const scores = frameScores(track, model);
      const { frame, time_s: times } = track.frames;
      let open = null;
      frame.forEach((number, row) => {
        const above = isNumber(scores[row]) && scores[row] >= limit;
        if (open && (!above || number - frame[row - 1] > JOINED)) open = null;
        if (!above) return;
        if (!open) {
          open = { person, start: times[row], end: 0, top: 0, peak: times[row] };
          found.push(open);
        }
        open.end = times[row + 1] ?? times[row] + 1 / (fps || 25);
        if (scores[row] > open.top) [open.top, open.peak] = [scores[row], times[row]];
      });
    }
  }
  return found;
}
