// The end of the job's log, read when it is opened and while it is.

import { api } from "./api.js";
import { el, say } from "./dom.js";

const EVERY = 3000;

export class LogView {
  #timer = null;
  #running = false;

  constructor(id) {
    this.id = id;
    this.text = el("pre", { tabindex: "0", role: "region", "aria-label": "log" });
    this.node = el("details", { class: "card", on: { toggle: () => this.#toggled() } }, el("summary", {}, el("h2", {}, "Log")), this.text);
  }

  update(job) {
    const running = job.state === "running" || job.state === "cancelling";
    const changed = running !== this.#running;
    this.#running = running;
    if (changed && this.node.open) this.#read();
  }

  close() {
    clearTimeout(this.#timer);
  }

  #toggled() {
    clearTimeout(this.#timer);
    if (this.node.open) this.#read();
  }

  async #read() {
    clearTimeout(this.#timer);
    try {
      const atEnd = this.text.scrollTop + this.text.clientHeight >= this.text.scrollHeight - 8;
      say(this.text, (await api.log(this.id)) || "The log is empty.");
      if (atEnd) this.text.scrollTop = this.text.scrollHeight;
    } catch (problem) {
      say(this.text, problem.message);
    }
    if (this.#running && this.node.open) this.#timer = setTimeout(() => this.#read(), EVERY);
  }
}
