// The race in words: who was still in it after each round, who left and why; and the run's notes.

import { el, say } from "./dom.js";
import { lastLeft } from "./figure_race.js";

/** How the reason of an optimizer begins that the plan left out. */
const CUT = "cut: ";

export class Rounds {
  #shown = "";

  constructor() {
    this.head = el("h2");
    this.list = el("div");
    this.node = el("section", { class: "card", hidden: true }, this.head, this.list);
  }

  draw(rounds, palette, notes, ended) {
    const key = JSON.stringify([ended, rounds, notes, palette.names().map((name) => palette.name(name))]);
    if (key === this.#shown) return;
    this.#shown = key;
    say(this.head, ended ? "Who was in the race" : "Who is in the race");
    this.node.hidden = rounds.length === 0 && notes.length === 0;
    const shown = (names) => names.map((name) => palette.name(name)).join(", ");
    const left = lastLeft(rounds);
    const kept = rounds.at(-1)?.kept ?? [];
    const lines = rounds.length ? [[ended ? "to the end" : "in it", shown(kept) || "none"]] : [];
    for (const [head, reasons] of grouped(left)) {
      lines.push([head, [...reasons].map(([why, names]) => `${shown(names)} (${why})`).join("; ")]);
    }
    this.list.replaceChildren(
      rounds.length ? el("dl", { class: "story" }, lines.flatMap(([head, text]) => [el("dt", {}, head), el("dd", {}, text)])) : "",
      notes.length ? el("ul", {}, notes.map((note) => el("li", {}, note))) : "",
    );
  }
}

/** Those who left, by the round after which they did and by the reason; those who never entered apart. */
function grouped(left) {
  const found = new Map();
  for (const [name, { stage, why }] of left) {
    const head = why.startsWith(CUT) ? "never entered" : `left after ${stage}`;
    const reason = why.startsWith(CUT) ? why.slice(CUT.length) : why;
    if (!found.has(head)) found.set(head, new Map());
    const reasons = found.get(head);
    reasons.set(reason, [...(reasons.get(reason) ?? []), name]);
  }
  return found;
}
