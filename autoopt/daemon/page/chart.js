// A chart in SVG: lines, bands, markers and error bars over linear, logarithmic or named axes. What is drawn is a plain
// object (see the files named figure_*.js); a legend shows and hides, pointer and arrow keys read off the points.
//
// A figure: {x, y, series, guides, note, log}
//   x, y      {title, log, names, format, zero, range, room}
//   series    [{key, name, colour, dash, width, opacity, line, step, legend, band, points}]
//   points    [{x, y, text, shape, size, low, high, open, ring, label}], text is what is read off
//   band      [{x, low, high}]
//   guides    [{x, to, colour, dash} or {y, dash}]: lines and shades across the chart

import { el, follow, say, svg } from "./dom.js";
import { categories, linear, logarithmic } from "./scale.js";
import { symbol } from "./symbols.js";
import { number } from "./words.js";

const REACH = 28;
const LETTER = 6.4;
let made = 0;

export class Chart {
  #figure = null;
  #hidden = new Map();
  #marks = [];
  #at = -1;
  #svg = svg("svg", { tabindex: "0", role: "img", "aria-label": "a chart that is not drawn yet" });
  #word = el("div", { class: "word", hidden: true });
  #read = el("div", { class: "unseen", role: "status" });
  #legend = el("ul", { class: "legend" });
  #none = el("p", { class: "none" });
  #clip = `plot-area-${++made}`;
  #width = 0;

  /** `title` is what the chart shows, in words; `height` in pixels. */
  constructor(title, height = 340) {
    this.title = title;
    this.height = height;
    this.node = el("div", { class: "chart" }, this.#none, this.#svg, this.#word, this.#read, this.#legend);
    this.#svg.addEventListener("pointermove", (event) => this.#point(event));
    this.#svg.addEventListener("pointerdown", (event) => this.#point(event));
    this.#svg.addEventListener("pointerleave", () => this.#choose(-1));
    this.#svg.addEventListener("blur", () => this.#choose(-1));
    this.#svg.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (width === this.#width) return;
      this.#width = width;
      this.#draw();
    }).observe(this.node);
  }

  /** Draws a figure; one without series says `empty`. */
  show(figure, empty = "Nothing to show yet.") {
    this.#figure = figure;
    say(this.#none, empty);
    this.#draw();
  }

  #shown(series) {
    return !(this.#hidden.get(series.key) ?? series.off ?? false);
  }

  #draw() {
    const figure = this.#figure;
    const nothing = figure === null || figure.series.length === 0;
    this.#none.hidden = !nothing;
    for (const node of [this.#svg, this.#legend]) node.toggleAttribute("hidden", nothing);
    if (nothing || this.#width === 0) return;
    const series = figure.series.filter((one) => this.#shown(one));
    const plot = this.#plot(figure, series);
    const pointed = this.#marks[this.#at]?.text;
    this.#marks = [];
    const lines = svg("g", { "clip-path": `url(#${this.#clip})` });
    const markers = svg("g");
    for (const guide of figure.guides ?? []) lines.append(...drawGuide(guide, plot));
    for (const one of series) if (one.band) lines.append(drawBand(one, plot));
    for (const one of series) if (one.line || one.step) lines.append(drawLine(one, plot));
    for (const one of series) this.#mark(one, plot, markers);
    this.#svg.setAttribute("viewBox", `0 0 ${this.#width} ${this.height}`);
    this.#svg.setAttribute("height", this.height);
    this.#svg.setAttribute("aria-label", this.#summary(figure, series));
    const area = svg("rect", { x: plot.left, y: plot.top, width: plot.right - plot.left, height: plot.bottom - plot.top });
    this.#svg.replaceChildren(
      svg("clipPath", { id: this.#clip }, area),
      drawAxes(figure, plot, this.#width, this.height),
      lines,
      markers,
      svg("g", { class: "here" }),
    );
    this.#listNames(figure);
    // What is pointed at stays pointed at while the chart grows.
    this.#choose(-1);
    if (pointed !== undefined) this.#choose(this.#marks.findIndex((mark) => mark.text === pointed));
  }

  #plot(figure, series) {
    const narrow = this.#width < 480;
    const top = 12;
    const bottom = this.height - 42;
    const [xs, ys] = ["x", "y"].map((side) => extent(figure[side], series, side));
    const y = scaleOf(figure.y, ys, [bottom, top]);
    const format = formatOf(figure.y);
    const yTicks = y.ticks(narrow ? 5 : 6);
    const longest = Math.max(1, ...yTicks.map((tick) => format(tick).length));
    const left = 24 + longest * LETTER;
    const right = this.#width - 12;
    const x = scaleOf(figure.x, xs, [left, right]);
    // So many as there is room for the longest of their names.
    const widest = Math.max(4, ...(figure.x.names ?? []).map((name) => name.length));
    const xTicks = x.ticks(Math.max(2, Math.floor((right - left) / (figure.x.names ? widest * LETTER + 8 : 70))));
    return { top, bottom, left, right, x, y, xTicks, yTicks };
  }

  #mark(one, plot, markers) {
    for (const point of one.points ?? []) {
      const [x, y] = [plot.x.at(point.x), plot.y.at(point.y)];
      if (!Number.isFinite(x) || !Number.isFinite(y)) continue;
      if (y < plot.top - 1 || y > plot.bottom + 1 || x < plot.left - 1 || x > plot.right + 1) continue;
      const colour = point.colour ?? one.colour;
      if (point.low !== undefined && point.low !== null) markers.append(drawBar(point, x, plot, colour));
      if (point.shape) markers.append(symbol(point.shape, x, y, point.size ?? 4.5, { ...point, colour }));
      if (point.label) {
        const anchor = x > plot.right - 60 ? "end" : x < plot.left + 40 ? "start" : "middle";
        const above = y - (point.size ?? 4.5) - 5;
        const place = above > plot.top + 8 ? above : y + (point.size ?? 4.5) + 14;
        markers.append(svg("text", { x, y: place, "text-anchor": anchor, class: "halo" }, point.label));
      }
      if (point.text) this.#marks.push({ x, y, text: `${one.name}: ${point.text}`, size: point.size ?? 4.5 });
    }
  }

  #listNames(figure) {
    const named = figure.series.filter((one) => one.legend);
    follow(
      this.#legend,
      named,
      (one) => one.key,
      (one) => {
        const button = el("button", { type: "button" });
        button.addEventListener("click", () => {
          const pressed = button.getAttribute("aria-pressed") === "true";
          this.#hidden.set(one.key, pressed);
          this.#draw();
        });
        return el("li", {}, button);
      },
      (node, one) => {
        const button = node.firstElementChild;
        const line = { x1: 0, y1: 5, x2: 22, y2: 5, stroke: one.colour, "stroke-width": 3, "stroke-dasharray": one.dash };
        const sample = svg("svg", { viewBox: "0 0 22 10", "aria-hidden": "true" }, svg("line", line));
        button.replaceChildren(sample, one.name);
        button.setAttribute("aria-pressed", String(this.#shown(one)));
      },
    );
  }

  #summary(figure, series) {
    const names = [...new Set(series.filter((one) => one.legend || one.points?.some((p) => p.text)).map((one) => one.name))];
    return `${this.title}: ${figure.y.title} by ${figure.x.title || "round"}, of ${names.join(", ") || "nothing"}. Arrow keys read the points.`;
  }

  #point(event) {
    const box = this.#svg.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = -1;
    let least = REACH;
    this.#marks.forEach((mark, i) => {
      const distance = Math.hypot(mark.x - x, mark.y - y);
      if (distance < least) [best, least] = [i, distance];
    });
    this.#choose(best);
  }

  #key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") this.#choose(-1);
    if (step === undefined || this.#marks.length === 0) return;
    event.preventDefault();
    const count = this.#marks.length;
    this.#choose(this.#at < 0 ? (step > 0 ? 0 : count - 1) : (this.#at + step + count) % count);
    say(this.#read, this.#marks[this.#at].text);
  }

  #choose(index) {
    if (index === this.#at) return;
    this.#at = index;
    const here = this.#svg.querySelector(".here");
    here?.replaceChildren();
    this.#word.hidden = index < 0;
    if (index < 0) return;
    const mark = this.#marks[index];
    here.append(svg("circle", { class: "focus", cx: mark.x, cy: mark.y, r: mark.size + 4 }));
    say(this.#word, mark.text);
    const { offsetWidth: width, offsetHeight: height } = this.#word;
    const left = Math.min(Math.max(0, mark.x - width / 2), this.#width - width);
    const above = mark.y - height - 14;
    this.#word.style.left = `${left}px`;
    this.#word.style.top = `${above >= 0 ? above : mark.y + 16}px`;
  }
}

/** Short numbers for ticks: 1e-4 rather than 0.0001, 20k rather than 20000. */
export function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 0.001) return value.toExponential();
  if (size >= 10000) return value % 1000 === 0 ? `${value / 1000}k` : value.toExponential();
  return number(value);
}

function formatOf(axis) {
  const format = axis.format ?? short;
  return (value) => (value === 0 ? "0" : format(value));
}

function extent(axis, series, side) {
  if (axis.names) return axis.names;
  const found = [];
  for (const one of series) {
    for (const point of one.points ?? []) {
      found.push(point[side]);
      if (side === "y" && Number.isFinite(point.low)) found.push(point.low, point.high);
    }
    if (side === "x") found.push(...(one.band ?? []).map((point) => point.x));
  }
  const usable = found.filter((value) => Number.isFinite(value) && (!axis.log || value > 0));
  if (axis.range) return axis.range;
  if (usable.length === 0) return axis.log ? [0.1, 1] : [0, 1];
  let low = Math.min(...usable);
  let high = Math.max(...usable);
  const share = axis.room ?? 0.05;
  if (axis.log) {
    const room = (high / low) ** share;
    return [low / room, high * room];
  }
  const room = share * (high - low);
  low = axis.zero ? Math.min(0, low) : low - room;
  high += room;
  return [low, high];
}

function scaleOf(axis, domain, range) {
  if (axis.names) return categories(domain, range);
  return (axis.log ? logarithmic : linear)(domain, range);
}

function drawAxes(figure, plot, width, height) {
  const { left, right, top, bottom } = plot;
  const [xFormat, yFormat] = [formatOf(figure.x), formatOf(figure.y)];
  const grid = [
    ...plot.yTicks.map((tick) => svg("line", { class: "gridline", x1: left, x2: right, y1: plot.y.at(tick), y2: plot.y.at(tick) })),
    ...plot.xTicks.map((tick) => svg("line", { class: "gridline", y1: top, y2: bottom, x1: plot.x.at(tick), x2: plot.x.at(tick) })),
  ];
  const names = [
    ...plot.yTicks.map((tick) => svg("text", { x: left - 6, y: plot.y.at(tick) + 4, "text-anchor": "end" }, yFormat(tick))),
    ...plot.xTicks.map((tick) => svg("text", { x: plot.x.at(tick), y: bottom + 15, "text-anchor": "middle" }, xFormat(tick))),
  ];
  const middle = (top + bottom) / 2;
  return svg(
    "g",
    { "aria-hidden": "true" },
    grid,
    svg("g", { class: "ticks" }, names),
    svg("text", { class: "title", x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, figure.x.title),
    svg("text", { class: "title", x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, figure.y.title),
  );
}

function drawLine(one, plot) {
  let d = "";
  let down = false;
  for (const point of one.points) {
    const [x, y] = [plot.x.at(point.x), plot.y.at(point.y)];
    if (!Number.isFinite(x) || !Number.isFinite(y)) {
      down = false;
      continue;
    }
    d += !down ? `M${x.toFixed(1)} ${y.toFixed(1)}` : one.step ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `L${x.toFixed(1)} ${y.toFixed(1)}`;
    down = true;
  }
  const look = { stroke: one.colour, "stroke-width": one.width ?? 2, "stroke-dasharray": one.dash, opacity: one.opacity };
  return svg("path", { d, fill: "none", "stroke-linejoin": "round", ...look });
}

function drawBand(one, plot) {
  const up = one.band.map((p) => `${plot.x.at(p.x).toFixed(1)} ${inside(plot.y.at(p.high), plot).toFixed(1)}`);
  const back = [...one.band].reverse().map((p) => `${plot.x.at(p.x).toFixed(1)} ${inside(plot.y.at(p.low), plot).toFixed(1)}`);
  return svg("path", { d: `M${[...up, ...back].join("L")}Z`, fill: one.colour, opacity: 0.15 });
}

/** A band may end at 0, which a logarithmic axis has not, or far outside. */
function inside(y, plot) {
  if (!Number.isFinite(y)) return y === -Infinity ? plot.top - 50 : plot.bottom + 50;
  return Math.min(Math.max(y, plot.top - 50), plot.bottom + 50);
}

function drawGuide(guide, plot) {
  if (guide.y !== undefined) {
    const y = plot.y.at(guide.y);
    return [svg("line", { class: "guide", x1: plot.left, x2: plot.right, y1: y, y2: y, "stroke-dasharray": "2 3" })];
  }
  const x = plot.x.at(guide.x);
  if (guide.to !== undefined) {
    const size = { x, y: plot.top, width: Math.max(1, plot.x.at(guide.to) - x), height: plot.bottom - plot.top };
    return [svg("rect", { ...size, fill: guide.colour, opacity: 0.1 })];
  }
  const look = { stroke: guide.colour, "stroke-width": 1.5, "stroke-dasharray": "6 4" };
  return [svg("line", { x1: x, x2: x, y1: plot.top, y2: plot.bottom, ...look })];
}

function drawBar(point, x, plot, colour) {
  const [low, high] = [inside(plot.y.at(point.low), plot), inside(plot.y.at(point.high), plot)];
  const d = `M${x} ${low}V${high}M${x - 4} ${low}h8M${x - 4} ${high}h8`;
  return svg("path", { d, stroke: colour, "stroke-width": 1.3, fill: "none" });
}
