// The charts of a job, drawn from its live view and, once there, its result.

import { Chart } from "./chart.js";
import { el, say } from "./dom.js";
import { curves } from "./figure_curves.js";
import { chances, soFar } from "./figure_race.js";
import { rates } from "./figure_rates.js";
import { COSTS, trade } from "./figure_trade.js";

export class Charts {
  #cost = "time";
  #last = null;

  constructor() {
    this.rates = card("Loss against learning rate", 380);
    this.curves = card("Loss curves");
    this.race = card("The race");
    this.chances = card("Chances over the rounds");
    this.trade = card("The trade-off");
    this.trade.head.append(this.#choice());
    const pair = el("div", { class: "pair" }, this.curves.node, this.race.node, this.chances.node, this.trade.node);
    this.node = el("div", { hidden: true }, this.rates.node, pair);
  }

  /** `given`: trials, rounds, result (or null), workload (or null), palette, ended. */
  draw(given) {
    this.#last = given;
    const { trials, rounds, result, workload, palette, ended } = given;
    this.node.hidden = trials.length === 0;
    const wait = ended ? "No trial has it to show." : "Comes when the first trials have ended.";
    this.rates.show(rates(trials, palette, result, workload), wait);
    this.curves.show(curves(trials, palette), wait);
    this.race.show(soFar(trials, rounds, palette), wait);
    const told = (result?.race ?? []).some((round) => Object.keys(round.chances).length > 0);
    this.chances.node.hidden = !told;
    this.trade.node.classList.toggle("alone", !told);
    if (told) this.chances.show(chances(result, palette), "");
    this.trade.show(trade(trials, palette, result, this.#cost), wait);
  }

  #choice() {
    const choice = el(
      "select",
      { "aria-label": "cost that the loss is shown against" },
      Object.keys(COSTS).map((name) => el("option", { value: name }, name === "time" ? "step time" : "memory")),
    );
    choice.addEventListener("change", () => {
      this.#cost = choice.value;
      if (this.#last !== null) this.draw(this.#last);
    });
    return el("div", {}, choice);
  }
}

function card(title, height) {
  const chart = new Chart(title, height);
  const note = el("p", { class: "small" });
  const head = el("div", { class: "bar" }, el("h2", {}, title));
  const node = el("section", { class: "card" }, head, chart.node, note);
  const show = (figure, wait) => {
    chart.show(figure, wait);
    say(note, figure.series.length ? figure.note : "");
  };
  return { node, head, show };
}
