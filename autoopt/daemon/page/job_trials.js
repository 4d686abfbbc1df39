// The table of trials, the latest first, kept up to date row by row.

import { el, follow, say } from "./dom.js";
import { duration, number, scaled } from "./words.js";

/** Rows shown before one asks for all. */
const FIRST = 12;
const COLUMNS = ["trial", "optimizer", "learning rate", "steps", "seed", "stage", "loss", "a step", "peak", "state"];
const LEFT = new Set(["optimizer", "stage", "state"]);

export class TrialTable {
  #all = false;
  #last = null;

  constructor() {
    this.head = el("h2", {}, "Trials");
    this.rows = el("tbody");
    const heads = COLUMNS.map((name) => el("th", { scope: "col", class: LEFT.has(name) ? "left" : null }, name));
    const table = el("table", { "aria-label": "trials" }, el("thead", {}, el("tr", {}, heads)), this.rows);
    this.more = el("button", { type: "button", hidden: true, on: { click: () => this.#toggle() } });
    // A region that scrolls sideways has to be reachable by keyboard.
    const scroll = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "table of trials" }, table);
    this.empty = el("p", { class: "soft" });
    this.node = el("section", { class: "card" }, el("div", { class: "bar" }, this.head, this.more), this.empty, scroll);
    this.scroll = scroll;
  }

  draw(trials, palette, ended) {
    this.#last = [trials, palette, ended];
    say(this.empty, ended ? "No trial was begun." : "No trials yet.");
    const latest = [...trials].sort((a, b) => (b.state === "running") - (a.state === "running") || b.trial - a.trial);
    say(this.head, `Trials (${trials.length})`);
    this.empty.hidden = trials.length > 0;
    this.scroll.hidden = trials.length === 0;
    this.more.hidden = trials.length <= FIRST;
    say(this.more, this.#all ? "Show the latest" : `Show all ${trials.length}`);
    this.more.setAttribute("aria-expanded", String(this.#all));
    const shown = this.#all ? latest : latest.slice(0, FIRST);
    follow(this.rows, shown, (trial) => trial.trial, row, (node, trial) => update(node, trial, palette));
  }

  #toggle() {
    this.#all = !this.#all;
    this.draw(...this.#last);
  }
}

function row() {
  return el("tr", {}, COLUMNS.map((name) => el("td", { class: LEFT.has(name) ? "left" : null })));
}

function update(node, trial, palette) {
  const running = trial.state === "running";
  node.className = running ? "running" : trial.state === "completed" ? "" : "lost";
  const texts = [
    String(trial.trial),
    null,
    number(trial.lr, 3),
    running && Number.isFinite(trial.step) ? `${trial.step} / ${trial.optimizer_steps ?? trial.steps}` : String(trial.optimizer_steps ?? trial.steps),
    String(trial.seed),
    trial.stage,
    number(trial.loss),
    duration(trial.step_seconds),
    scaled(trial.peak_bytes, "B"),
    trial.state.replaceAll("_", " "),
  ];
  texts.forEach((text, i) => text !== null && say(node.children[i], text));
  const cell = node.children[1];
  const name = palette.name(trial.optimizer);
  if (cell.textContent !== name) cell.replaceChildren(el("span", { class: "swatch", "aria-hidden": "true" }), name);
  cell.firstChild.style.backgroundColor = palette.colour(trial.optimizer);
  if (trial.message) node.lastChild.title = trial.message;
}
