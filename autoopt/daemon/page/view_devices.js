// The devices of the machine, and who uses them.

import { api } from "./api.js";
import { problemCard } from "./ask.js";
import { el } from "./dom.js";
import { scaled, titleOf } from "./words.js";

const EVERY = 5000;

export function devices(main, store) {
  document.title = "Devices - autoopt";
  const place = el("div", {}, el("p", { class: "empty" }, "Loading the devices ..."));
  main.append(el("h1", {}, "Devices"), place);
  let timer = null;
  let closed = false;
  let shown = "";

  async function read() {
    clearTimeout(timer);
    let content;
    try {
      const found = await api.devices();
      content = JSON.stringify(found);
      if (!closed && content !== shown) place.replaceChildren(...list(found, store));
    } catch (problem) {
      content = problem.message;
      if (!closed && content !== shown) place.replaceChildren(problemCard(problem, read));
    }
    shown = content;
    if (!closed) timer = setTimeout(read, EVERY);
  }

  read();
  return () => {
    closed = true;
    clearTimeout(timer);
  };
}

function list(found, store) {
  if (found.length === 0) return [el("p", { class: "card empty" }, "The daemon knows no devices.")];
  return found.map((device) => {
    const used = device.total ? device.total - (device.free ?? 0) : null;
    const meter =
      used === null
        ? null
        : el(
            "div",
            { class: "track" },
            el("progress", { max: device.total, value: used, "aria-label": `memory used of ${device.name}` }),
            el("span", { class: "small" }, `${scaled(used, "B")} of ${scaled(device.total, "B")} used`),
          );
    return el(
      "section",
      { class: "card" },
      el("div", { class: "bar" }, el("h2", {}, device.name ?? device.uuid), el("span", { class: "soft" }, device.kind ?? "")),
      meter,
      el("p", {}, ...holder(device, store.jobs)),
      others(device),
      el("p", { class: "small" }, device.uuid),
    );
  });
}

function holder(device, jobs) {
  const by = device.leased_by;
  if (by === null || by === undefined || by === "") return ["Free."];
  const words = typeof by === "string" ? by : JSON.stringify(by);
  if (!/^[a-z0-9]{12}$/.test(words)) return [`In use by ${words}.`];
  return ["In use by ", el("a", { href: `#/jobs/${encodeURIComponent(words)}` }, jobs.has(words) ? titleOf(jobs.get(words)) : words), "."];
}

function others(device) {
  const found = device.others;
  if (!found || (Array.isArray(found) && found.length === 0)) return null;
  const words = Array.isArray(found) ? found.map((one) => (typeof one === "string" ? one : JSON.stringify(one))).join(", ") : String(found);
  return el("p", { class: "small" }, `Others on it: ${words}`);
}
