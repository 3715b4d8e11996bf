// Builds elements, and writes numbers for people. All text becomes text nodes, never markup.

/** Find an element of the page. */
export const byId = (id) => document.getElementById(id);

/**
 * Make an element.
 * @param {string} tag its name
 * @param {Object} attributes set as they are; those that are null, undefined or false are left out
 * @param {...(Node|string|number)} children nodes, or text
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  setAll(element, attributes);
  element.append(...children.filter((child) => child !== null && child !== undefined).map(asNode));
  return element;
}

/** Make an element of a drawing. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  setAll(element, attributes);
  element.append(...children);
  return element;
}

function setAll(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, String(value));
    }
  }
}

const asNode = (child) => (child instanceof Node ? child : document.createTextNode(String(child)));

/** Write a score with three digits, or a dash where there is none. */
export const score = (value) => (isNumber(value) ? value.toFixed(3) : "–");

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** Write a time as 0:03.2 or 1:02:03.4. */
export function clock(seconds, digits = 1) {
  const unit = 10 ** digits;
  const all = Math.round(Math.max(0, seconds) * unit);
  const rest = ((all % (60 * unit)) / unit).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  const minutes = Math.floor(all / (60 * unit));
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

/** Write a number of bytes. */
export function bytes(count) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  const step = Math.min(3, count > 0 ? Math.floor(Math.log2(count) / 10) : 0);
  const value = count / 1024 ** step;
  return `${step && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[step]}`;
}

/** Write a duration as "2 hours", "90 seconds". */
export function lasting(seconds) {
  const [value, unit] =
    seconds >= 7200 ? [seconds / 3600, "hours"]
    : seconds >= 120 ? [seconds / 60, "minutes"]
    : [seconds, "seconds"];
  return `${Number(value.toFixed(1))} ${unit}`;
}

/** Fill a list of names and values. */
export function fillPairs(list, pairs) {
  list.replaceChildren(
    ...pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))),
  );
}

/** Fill a table; the first cell of a row names it. */
export function fillTable(table, head, rows) {
  const headCells = head.map((text) => make("th", { scope: "col" }, text));
  const body = rows.map((cells) =>
    make("tr", {}, ...cells.map((cell, i) => make(i ? "td" : "th", i ? {} : { scope: "row" }, cell))),
  );
  table.replaceChildren(
    make("thead", {}, make("tr", {}, ...headCells)),
    make("tbody", {}, ...body),
  );
}
