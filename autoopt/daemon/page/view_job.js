// One job: how it stands, what it recommends, its charts, trials and log.

import { announce, confirmed, problemCard } from "./ask.js";
import { coded, el, facts, moment, say } from "./dom.js";
import { Charts } from "./job_charts.js";
import { LogView } from "./job_log.js";
import { ResultView } from "./job_result.js";
import { Rounds } from "./job_rounds.js";
import { TrialTable } from "./job_trials.js";
import { Palette } from "./palette.js";
import { drawBadge, drawProgress } from "./view_jobs.js";
import { about, placesOf, sentence, titleOf } from "./words.js";

const ENDED = ["done", "failed", "cancelled", "set_aside"];
/** Least milliseconds between two drawings of the charts. */
const PAUSE = 400;

export function job(main, store, id) {
  document.title = "Job - autoopt";
  const page = new JobPage(store, id);
  main.append(page.node);
  page.open();
  return () => page.close();
}

class JobPage {
  #timer = null;
  #clock = null;
  #stop = () => {};
  #listeners = [];
  #closed = false;

  constructor(store, id) {
    this.store = store;
    this.id = id;
    this.title = el("h1", {}, "Job");
    this.badge = el("span", { class: "badge" });
    this.actions = el("div", { class: "actions" });
    this.trouble = el("div");
    this.track = el("div", { class: "track" }, el("progress", { max: "1", "aria-label": "progress" }), el("span", { class: "small left" }));
    this.facts = el("div");
    this.notices = el("div");
    this.result = new ResultView(id);
    this.charts = new Charts();
    this.rounds = new Rounds();
    this.trials = new TrialTable();
    this.log = new LogView(id);
    this.loading = el("p", { class: "empty" }, "Loading the job ...");
    this.body = el(
      "div",
      { hidden: true },
      el("div", { class: "bar" }, el("div", { class: "actions" }, this.badge), this.actions),
      this.track,
      this.facts,
      this.notices,
      this.result.node,
      this.charts.node,
      this.rounds.node,
      this.trials.node,
      this.log.node,
    );
    const back = el("p", { class: "small" }, el("a", { href: "#/jobs" }, "Jobs"), " / ", id);
    this.node = el("article", {}, back, this.title, this.trouble, this.loading, this.body);
  }

  open() {
    this.#on("live", ({ detail }) => detail === this.id && this.#soon());
    this.#on("job", ({ detail }) => detail.job.id === this.id && this.#soon());
    this.#on("connection", () => this.store.connection === "open" && !this.store.jobs.has(this.id) && this.#load());
    this.#load();
    // Time goes on between two events.
    this.#clock = setInterval(() => this.#drawFacts(), 1000);
  }

  close() {
    this.#closed = true;
    this.#stop();
    clearTimeout(this.#timer);
    clearInterval(this.#clock);
    this.log.close();
    for (const [type, listener] of this.#listeners) this.store.removeEventListener(type, listener);
  }

  #on(type, listener) {
    this.store.addEventListener(type, listener);
    this.#listeners.push([type, listener]);
  }

  async #load() {
    this.trouble.replaceChildren();
    try {
      await this.store.job(this.id);
    } catch (problem) {
      if (this.#closed) return;
      this.loading.hidden = true;
      this.trouble.replaceChildren(problemCard(problem, problem.status === 404 ? null : () => this.#load()));
      return;
    }
    if (this.#closed) return;
    this.#stop();
    this.#stop = this.store.watch(this.id);
    this.#draw();
  }

  #soon() {
    if (this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#draw();
    }, PAUSE);
  }

  #draw() {
    const job = this.store.jobs.get(this.id);
    if (job === undefined || this.#closed) return;
    const live = this.store.lives.get(this.id);
    this.loading.hidden = true;
    this.body.hidden = false;
    say(this.title, titleOf(job));
    document.title = `${titleOf(job)} - autoopt`;
    drawBadge(this.badge, job);
    drawProgress(this.track, job, live);
    this.#drawActions(job);
    this.#drawFacts();
    this.#drawNotices(job);
    this.result.update(job, () => this.#soon());
    const trials = live?.trials ?? [];
    const result = this.result.found;
    const workload = result?.workload ?? live?.workload ?? null;
    const palette = new Palette(trials, result, workload);
    this.result.draw(palette);
    this.charts.draw({ trials, rounds: live?.rounds ?? [], result, workload, palette, ended: ENDED.includes(job.state) });
    this.rounds.draw(live?.rounds ?? [], palette, live?.notes ?? [], ENDED.includes(job.state));
    this.trials.draw(trials, palette, ENDED.includes(job.state));
    this.log.update(job);
  }

  #drawActions(job) {
    const cancel = ["queued", "running"].includes(job.state);
    const retry = ["failed", "cancelled", "set_aside"].includes(job.state);
    const key = `${cancel} ${retry}`;
    if (this.actions.dataset.shown === key) return;
    const focused = this.actions.contains(document.activeElement);
    this.actions.dataset.shown = key;
    this.actions.replaceChildren(
      ...(cancel ? [el("button", { type: "button", class: "danger", on: { click: () => this.#cancel(job) } }, "Cancel")] : []),
      ...(retry ? [el("button", { type: "button", on: { click: () => this.#retry(job) } }, "Retry")] : []),
    );
    // The button that was pressed is gone: the reader goes on at the head.
    if (focused) {
      this.title.setAttribute("tabindex", "-1");
      (this.actions.querySelector("button") ?? this.title).focus();
    }
  }

  async #cancel(job) {
    const detail = "Its trials so far stay in its log and its folder, but it makes no recommendation.";
    if (await confirmed(`Cancel ${titleOf(job)}?`, detail, "Cancel the job")) await this.#act(() => this.store.cancel(this.id));
  }

  async #retry(job) {
    const detail = "The same job waits for a device again, with the project as it was submitted. What was measured is kept.";
    if (await confirmed(`Retry ${titleOf(job)}?`, detail, "Retry the job")) await this.#act(() => this.store.retry(this.id));
  }

  async #act(call) {
    this.trouble.replaceChildren();
    try {
      await call();
    } catch (problem) {
      this.trouble.replaceChildren(problemCard(problem));
      announce(problem.message);
    }
  }

  #drawFacts() {
    const job = this.store.jobs.get(this.id);
    if (job === undefined || this.body.hidden) return;
    const live = this.store.lives.get(this.id);
    const until = job.ended ?? Date.now() / 1000;
    const target = [job.submission.target, ...(job.submission.arguments ?? [])].join(" ");
    const pairs = [
      ["target", target],
      ["submitted", moment(job.created)],
      job.started ? [ENDED.includes(job.state) ? "took" : "runs for", about(until - job.started)] : ["waits for", about(until - job.created)],
      ["device", placesOf(job) || (job.state === "queued" ? "waits for one" : "none")],
      job.submission.priority ? ["priority", String(job.submission.priority)] : null,
      job.attempts > 1 ? ["starts", String(job.attempts)] : null,
      live?.trials?.length ? ["trials", String(live.trials.length)] : null,
    ];
    const key = JSON.stringify(pairs.map((pair) => pair && [pair[0], pair[1].textContent ?? pair[1]]));
    if (this.facts.dataset.shown === key) return;
    this.facts.dataset.shown = key;
    this.facts.replaceChildren(facts(pairs));
  }

  #drawNotices(job) {
    const found = [];
    if (job.error) {
      const text = el("div", { class: "notice bad" }, el("strong", {}, coded(job.error.message ?? "It failed.")));
      if (job.error.hint) text.append(el("p", {}, coded(job.error.hint)));
      found.push(text);
    } else if (job.reason) {
      const bad = ["failed", "set_aside"].includes(job.state);
      found.push(el("div", { class: bad ? "notice bad" : "notice" }, coded(sentence(job.reason))));
    }
    if (job.state === "set_aside" && !job.error) {
      const text = "Its process died without a word more than once, so it is not started again by itself. The log tells the last lines.";
      found.push(el("div", { class: "notice warn" }, text));
    }
    if (job.changed?.length) {
      const list = el("ul", {}, job.changed.map((line) => el("li", {}, line)));
      found.push(el("div", { class: "notice warn" }, "The project has changed since it was submitted; the job keeps to the copy of then:", list));
    }
    const key = JSON.stringify([job.state, job.error, job.reason, job.changed]);
    if (this.notices.dataset.shown === key) return;
    this.notices.dataset.shown = key;
    this.notices.replaceChildren(...found);
  }
}
