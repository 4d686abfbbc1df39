// What is known of the jobs, kept up to date by the stream of changes; views listen and draw.

import { api } from "./api.js";
import { listen } from "./events.js";

const POLL = 5000;
/** Least milliseconds between two fetches of one job's live view. */
const PAUSE = 1000;

/**
 * Events: "jobs" (the list changed), "job" (detail: the job and its state before), "live" (detail: an id),
 * "connection".
 */
export class Store extends EventTarget {
  jobs = new Map();
  lives = new Map();
  /** The problem of the last fetch of the list, or null. */
  problem = null;
  loaded = false;
  /** Whether older jobs than those in the list may exist. */
  more = false;
  /** "connecting", "open", "lost" (nothing can be asked), "polling" (asked, but no stream) or "login". */
  connection = "connecting";
  #since = new Set();
  #watched = new Set();
  #fetching = new Map();
  #poll = null;

  start() {
    listen({
      opened: () => this.#opened(),
      lost: () => this.#lost(),
      job: (id, job) => this.#take(job),
      live: (id, data) => this.#merge(id, data),
      reset: () => this.reload(),
    });
  }

  /** The list, and what is shown live, anew. */
  async reload() {
    this.#since.clear();
    try {
      const found = await api.jobs();
      const before = this.jobs;
      this.jobs = new Map(found.map((job) => [job.id, newer(job, before.get(job.id))]));
      // What came while the answer was on its way may not be in it.
      for (const id of this.#since) if (!this.jobs.has(id)) this.jobs.set(id, before.get(id));
      this.more = found.length >= 200;
      this.problem = null;
      this.loaded = true;
      for (const job of found) this.#tell(this.jobs.get(job.id), before.get(job.id)?.state ?? null);
    } catch (problem) {
      this.problem = problem;
      if (problem.status === 401 || problem.status === 403) this.#connect("login");
    }
    this.dispatchEvent(new Event("jobs"));
    for (const id of this.#watched) this.#fetchLive(id);
    return this.problem === null;
  }

  async older() {
    const last = [...this.jobs.values()].sort((a, b) => a.created - b.created)[0];
    const found = await api.jobs(last.id);
    for (const job of found) this.jobs.set(job.id, newer(job, this.jobs.get(job.id)));
    this.more = found.length >= 200;
    this.dispatchEvent(new Event("jobs"));
  }

  /** A job that is not in the list yet, or whose answer came from a command. */
  async job(id) {
    if (!this.jobs.has(id)) this.#take(await api.job(id));
    return this.jobs.get(id);
  }

  async cancel(id) {
    this.#take(await api.cancel(id));
  }

  async retry(id) {
    this.#take(await api.retry(id));
  }

  /** Submits; the new job. */
  async submit(submission, bundle, key) {
    const job = await api.submit(submission, bundle, key);
    this.#take(job);
    return job;
  }

  /** Keeps a job's live view up to date until the returned function is called. */
  watch(id) {
    this.#watched.add(id);
    this.#fetchLive(id);
    return () => this.#watched.delete(id);
  }

  #opened() {
    clearInterval(this.#poll);
    this.#poll = null;
    this.#connect("open");
    // The stream tells what changes from now on; what is now has to be asked.
    this.reload();
  }

  #lost() {
    if (this.connection !== "login" && this.connection !== "polling") this.#connect("lost");
    if (this.#poll !== null) return;
    const ask = async () => {
      const answered = await this.reload();
      if (this.#poll === null || this.connection === "login") return;
      this.#connect(answered ? "polling" : "lost");
    };
    this.#poll = setInterval(ask, POLL);
    ask();
  }

  #connect(state) {
    if (this.connection === state) return;
    this.connection = state;
    this.dispatchEvent(new Event("connection"));
  }

  #take(job) {
    const before = this.jobs.get(job.id);
    const now = newer(job, before);
    this.jobs.set(job.id, now);
    this.#since.add(job.id);
    const live = this.lives.get(job.id);
    if (live) live.job = now;
    this.#tell(now, before?.state ?? null);
    this.dispatchEvent(new Event("jobs"));
    // The end of a job changes its live view too, and no event of it may follow.
    if (before?.state !== now.state && this.#watched.has(job.id)) this.#fetchLive(job.id);
  }

  #tell(job, before) {
    this.dispatchEvent(new CustomEvent("job", { detail: { job, before } }));
  }

  #merge(id, data) {
    // An answer on its way may be older than this, and would undo it.
    const fetching = this.#fetching.get(id);
    if (fetching?.asked) fetching.again = true;
    if (Array.isArray(data.trials)) {
      this.lives.set(id, data);
    } else {
      const live = this.lives.get(id) ?? { trials: [], rounds: [], progress: null, partial: true };
      if (data.progress) live.progress = data.progress;
      if (data.trial) {
        const at = live.trials.findIndex((trial) => trial.trial === data.trial.trial);
        if (at < 0) live.trials.push(data.trial);
        else live.trials[at] = data.trial;
      }
      if (data.round) {
        live.rounds = [...(live.rounds ?? []).filter((round) => round.stage !== data.round.stage), data.round];
      }
      this.lives.set(id, live);
      // What came tells no more than that something changed, or we do not know the rest: the workload comes in no event.
      const unknown = live.partial || !live.workload;
      if (this.#watched.has(id) && (unknown || (!data.trial && !data.round))) this.#fetchLive(id);
    }
    this.dispatchEvent(new CustomEvent("live", { detail: id }));
    this.dispatchEvent(new Event("jobs"));
  }

  #fetchLive(id) {
    const before = this.#fetching.get(id);
    if (before) {
      before.again = true;
      return;
    }
    const now = { asked: true, again: false };
    this.#fetching.set(id, now);
    api
      .live(id)
      .then((live) => {
        this.lives.set(id, live);
        this.dispatchEvent(new CustomEvent("live", { detail: id }));
      })
      .catch(() => {}) // the connection's state says it, and the next event tries again
      .finally(() => {
        now.asked = false;
        setTimeout(() => {
          this.#fetching.delete(id);
          if (now.again && this.#watched.has(id)) this.#fetchLive(id);
        }, PAUSE);
      });
  }
}

/** An answer may be overtaken by an event: the higher version is the later one. */
function newer(job, known) {
  return known && known.version > job.version ? known : job;
}
