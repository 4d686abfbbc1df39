// The recommendation: what to train with, why, how far to trust it, and its files.

import { api, fileOf } from "./api.js";
import { problemCard } from "./ask.js";
import { el, facts } from "./dom.js";
import { duration, interval, number, promised, scaled, sentence } from "./words.js";

export class ResultView {
  /** The recommendation, once it has been read. */
  found = null;
  #version = null;
  #drawn = false;

  constructor(id) {
    this.id = id;
    this.node = el("section", { "aria-label": "recommendation", hidden: true });
  }

  /** Reads the recommendation of a job that is done; `ready` is called when it is there. */
  async update(job, ready) {
    if (job.state !== "done") {
      this.found = null;
      this.#version = null;
      this.#drawn = false;
      this.node.hidden = true;
      return;
    }
    if (this.#version === job.version) return;
    this.#version = job.version;
    this.node.hidden = false;
    if (this.found === null) this.node.replaceChildren(el("p", { class: "card soft" }, "Loading the recommendation ..."));
    try {
      this.found = await api.result(this.id);
      this.#drawn = false;
      ready();
    } catch (problem) {
      const again = () => {
        this.#version = null;
        this.update(job, ready);
      };
      this.node.replaceChildren(problemCard(problem, again));
    }
  }

  draw(palette) {
    if (this.found === null || this.#drawn) return;
    this.#drawn = true;
    const name = (optimizer) => palette.name(optimizer);
    this.node.replaceChildren(summary(this.found, name), this.#files(), table(this.found, name));
  }

  #files() {
    const page = el("a", { class: "button", href: fileOf(this.id, "report.html"), download: "report.html" }, "Download report.html");
    return el(
      "section",
      { class: "card" },
      el("div", { class: "bar" }, el("h2", {}, "Take it with you"), page),
      file(this.id, "train.py"),
      file(this.id, "recommendation.yaml"),
    );
  }
}

function summary(rec, name) {
  const choice = rec.recommendation;
  const seen = rec.expected;
  const pairs = [
    ["optimizer", name(choice.optimizer)],
    ["learning rate", number(choice.hyper.lr, 3)],
    choice.lr_interval ? ["best rate between", `${number(choice.lr_interval[0], 2)} and ${number(choice.lr_interval[1], 2)}`] : null,
    [`loss at ${Math.max(1, Math.round(seen.steps / (choice.hyper.batch ?? 1)))} steps`, interval(seen)],
    ["a step", duration(seen.step_seconds)],
    ["peak memory", scaled(seen.peak_bytes, "B")],
    choice.effective_batch ? ["a step sees", effectiveBatch(choice.effective_batch)] : null,
    ["the real run", `${choice.steps} steps, ${choice.schedule}`],
  ];
  const promise = rec.promise?.length
    ? el("p", {}, `Promise, with 90 % probability: ${promised(rec.promise)} of the real run. train.py tests it.`)
    : null;
  return el(
    "section",
    { class: "card" },
    el("h2", {}, sentence(rec.against_yours.sentence)),
    rec.complete ? null : el("p", { class: "trust medium" }, "Stopped early: this is the best so far."),
    el("p", {}, rec.reason),
    el("p", {}, "Confidence ", el("strong", { class: `trust ${rec.confidence.label}` }, rec.confidence.label), ", because:"),
    el("ul", {}, rec.confidence.reasons.map((reason) => el("li", {}, reason))),
    promise,
    facts(pairs),
    rec.notes?.length ? el("ul", { class: "small" }, rec.notes.map((note) => el("li", {}, note))) : null,
  );
}

/** The samples that the learning rate holds for. */
function effectiveBatch({ samples, samples_per_batch: each, accumulate, ranks }) {
  const parts = each === null ? [] : [`${each} a batch`];
  if (accumulate > 1) parts.push(`${accumulate} batches accumulated`);
  if (ranks > 1) parts.push(`${ranks} processes`);
  if (samples === null) return parts.join(", ") || "1 batch";
  return parts.length > 1 ? `${samples} samples (${parts.join(", ")})` : `${samples} samples`;
}

/** Seconds for as many samples as a step of the run's own batch sees. */
function pace(row) {
  return row.expected?.step_seconds ? row.expected.step_seconds / (row.hyper?.batch ?? 1) : undefined;
}

function timesBatch(row) {
  return row.hyper?.batch ? ` ${row.hyper.batch}x` : "";
}

function table(rec, name) {
  const columns = ["optimizer", "status", "final loss [interval]", "learning rate", "step", "state", "peak", "trials", "why"];
  const left = new Set(["optimizer", "status", "why"]);
  const own = rec.workload?.baseline?.hyper?.lr;
  const tried = rec.optimizers.filter((row) => row.trials > 0 || row.expected);
  const others = rec.optimizers.filter((row) => !tried.includes(row)).map((row) => [row.optimizer, row.reason]);
  const rows = tried.map((row) => {
    const seen = row.expected;
    const shorter = seen && seen.steps !== rec.expected.steps ? ` at ${seen.steps}` : "";
    const rate = row.hyper?.lr ?? (row.optimizer === "baseline" ? own : undefined);
    const cells = [
      name(row.optimizer) + timesBatch(row) + (row.pareto ? " *" : ""), row.status, interval(seen) + shorter, number(rate, 2),
      duration(pace(row)), scaled(seen?.state_bytes, "B"), scaled(seen?.peak_bytes, "B"), String(row.trials), row.reason,
    ];
    const kind = row.status === "recommended" ? "recommended" : null;
    return el("tr", { class: kind }, cells.map((text, i) => el("td", { class: columns[i] === "why" ? "why" : left.has(columns[i]) ? "left" : null }, text)));
  });
  const heads = columns.map((text) => el("th", { scope: "col", class: left.has(text) ? "left" : null }, text));
  const scroll = el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "table of optimizers" },
    el("table", { "aria-label": "optimizers" }, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows)),
  );
  const untried = [...byReason({ ...rec.cut, ...Object.fromEntries(others) })];
  return el(
    "section",
    { class: "card" },
    el("h2", {}, "Optimizers"),
    scroll,
    el("p", { class: "small" }, "* on the Pareto front: no other is as good in loss, step time and memory."),
    untried.map(([why, names]) => el("p", { class: "small" }, `Not tried: ${names.map(name).join(", ")} (${why}).`)),
  );
}

/** Names that share a reason, together. */
function byReason(reasons) {
  const found = new Map();
  for (const [name, told] of Object.entries(reasons)) {
    const why = told.replace(/^cut: /, "");
    found.set(why, [...(found.get(why) ?? []), name]);
  }
  return found;
}

/** A text file that can be read, copied and downloaded; it is fetched when it is opened. */
function file(id, name) {
  const text = el("pre", { tabindex: "0", role: "region", "aria-label": name }, "Loading ...");
  const copy = el("button", { type: "button" }, "Copy");
  const download = el("a", { class: "button", href: fileOf(id, name), download: name }, "Download");
  let read = null;
  const content = () => (read ??= api.file(id, name).then((found) => (text.textContent = found)));
  const box = el(
    "details",
    {},
    el("summary", {}, name),
    el("div", { class: "bar" }, el("span"), el("div", { class: "actions" }, copy, download)),
    text,
  );
  const failed = (problem) => {
    read = null;
    text.textContent = problem.message;
  };
  box.addEventListener("toggle", () => box.open && content().catch(failed));
  copy.addEventListener("click", () => {
    content()
      .then((found) => navigator.clipboard.writeText(found))
      .then(() => (copy.textContent = "Copied"))
      .catch(() => {
        // Only pages of this machine or over TLS have a clipboard: select the text instead.
        getSelection().selectAllChildren(text);
        copy.textContent = "Selected";
      })
      .finally(() => setTimeout(() => (copy.textContent = "Copy"), 1500));
  });
  return box;
}
