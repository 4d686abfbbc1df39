// A colour for each optimizer, the same in every chart of a job; the colours are those of the report.

const COLOURS = [
  "#3b82f6", "#f97316", "#10b981", "#e11d48", "#8b5cf6", "#d4a017", "#06b6d4", "#ec4899", "#65a30d", "#7c8aa5",
];
export const YOURS = "#94a3b8";
export const BASELINE = "baseline";

/**
 * Colours, dashes and names of a job's optimizers. The order is that of their first trials, so that no line changes its
 * colour while one looks on.
 */
export class Palette {
  #order;
  #yours;

  constructor(trials, result, workload) {
    const raced = (result?.race ?? []).flatMap((round) => Object.keys(round.chances));
    const named = [...trials.map((t) => t.optimizer), ...raced, ...(result?.optimizers ?? []).map((row) => row.optimizer)];
    this.#order = [...new Set(named)].filter((name) => name !== BASELINE);
    const source = (result?.workload ?? workload)?.baseline?.source;
    this.#yours = source === "default" ? "default" : "yours";
  }

  names() {
    return [...this.#order, BASELINE];
  }

  colour(name) {
    return name === BASELINE ? YOURS : COLOURS[this.#number(name) % COLOURS.length];
  }

  /** The user's own is dashed; lines that share their colour with another one are dotted. */
  dash(name) {
    if (name === BASELINE) return "7 4";
    return this.#number(name) < COLOURS.length ? null : "2 3";
  }

  name(name) {
    return name === BASELINE ? this.#yours : name;
  }

  #number(name) {
    const at = this.#order.indexOf(name);
    return at < 0 ? this.#order.length : at;
  }
}
