// Elements without HTML strings: what users wrote reaches the page only as text.

/**
 * An element. `properties` are attributes; `class`, `on` (listeners) and `data` are what they say; `null` leaves one out.
 * Children are nodes or text.
 */
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for a drawing. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [type, listener] of Object.entries(value)) node.addEventListener(type, listener);
    else if (name === "data") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Sets the text only where it differs: an untouched node keeps the reader's selection. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Children that follow a list: one for each item, made once and updated after, so that focus and scroll stay.
 * Nodes of items that are gone are removed.
 */
export function follow(parent, items, keyOf, make, update) {
  const known = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let node = known.get(key);
    if (node === undefined) {
      node = make(item);
      node.dataset.key = key;
    }
    known.delete(key);
    if (node === next) next = next.nextElementSibling;
    else parent.insertBefore(node, next);
    update(node, item);
  }
  for (const node of known.values()) node.remove();
}

/** A moment as the reader's clock shows it. */
export function moment(seconds) {
  const date = new Date(1000 * seconds);
  const today = date.toDateString() === new Date().toDateString();
  const shown = today ? date.toLocaleTimeString() : date.toLocaleString();
  return el("time", { datetime: date.toISOString(), title: date.toLocaleString() }, shown);
}

/** Text whose parts between backticks are code. */
export function coded(text) {
  return String(text)
    .split("`")
    .map((part, i) => (i % 2 ? el("code", {}, part) : part));
}

/** Head and text of a definition list. */
export function facts(pairs) {
  return el(
    "dl",
    { class: "facts" },
    pairs.filter((pair) => pair !== null).map(([head, text]) => el("div", {}, el("dt", {}, head), el("dd", {}, text))),
  );
}
