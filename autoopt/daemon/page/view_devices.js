// The devices of the machine, and who uses them.

import { api } from "./api.js";
import { problemCard } from "./ask.js";
import { el } from "./dom.js";
import { plural, scaled, sentence, titleOf } from "./words.js";

const EVERY = 5000;
/** How a job's id looks. */
const JOB = /^(?:job )?([a-z0-9]{12})$/;

export function devices(main, store) {
  document.title = "Devices - autoopt";
  const place = el("div", {}, el("p", { class: "empty" }, "Loading the devices ..."));
  main.append(el("h1", {}, "Devices"), place);
  let timer = null;
  let closed = false;
  let found = null;
  let shown = "";

  async function read() {
    clearTimeout(timer);
    try {
      found = await api.devices();
      draw();
    } catch (problem) {
      if (!closed) replace(problem.message, () => [problemCard(problem, read)]);
    }
    if (!closed) timer = setTimeout(read, EVERY);
  }

  function draw() {
    if (closed || found === null) return;
    const titles = [...store.jobs.values()].map(titleOf);
    replace(JSON.stringify([found, titles]), () => list(found, store));
  }

  /** Leaves what has not changed as it is: the reader may have the focus in it. */
  function replace(content, make) {
    if (content === shown) return;
    shown = content;
    place.replaceChildren(...make());
  }

  store.addEventListener("jobs", draw);
  read();
  return () => {
    closed = true;
    clearTimeout(timer);
    store.removeEventListener("jobs", draw);
  };
}

function list(found, store) {
  if (found.length === 0) return [el("p", { class: "card empty" }, "The daemon knows no devices.")];
  return found.map((device) => {
    if (device.kind === "cluster") return cluster(device, store);
    const name = device.kind === "cpu" ? "CPU" : (device.name ?? device.uuid);
    const meter = meterOf(device, name);
    return el(
      "section",
      { class: "card" },
      el("div", { class: "bar" }, el("h2", {}, name)),
      meter,
      el("p", {}, ...holder(device, store.jobs)),
      others(device),
      device.uuid === device.kind ? null : el("p", { class: "small" }, device.uuid),
    );
  });
}

/** A kind of device of the cluster, counted in places, each for a trial; or that there is no cluster now. */
function cluster(device, store) {
  const head = el("div", { class: "bar" }, el("h2", {}, sentence(device.name)));
  if (device.trouble) {
    const why = `Not there: ${device.trouble}. Jobs wait for it, and go on when it is there.`;
    return el("section", { class: "card" }, head, el("p", { role: "status" }, why.replace("..", ".")));
  }
  const { total, used, free } = device;
  const words = `${used} of ${plural(total, "place")} in use, ${free} free`;
  const bar = el("progress", { max: Math.max(1, total), value: Math.min(used, total), "aria-label": `places of ${device.name} in use` });
  const rows = device.machines.map((one) =>
    el("tr", {}, el("td", { class: "left" }, one.address), ...[one.cpus, one.gpus, one.total, one.used, one.free].map((n) => el("td", {}, String(n)))),
  );
  const names = ["Machine", "Cores", "GPUs", "Places", "In use", "Free"].map((text, i) => el("th", { scope: "col", class: i ? null : "left" }, text));
  return el(
    "section",
    { class: "card" },
    head,
    el("div", { class: "track" }, bar, el("span", { class: "small" }, words)),
    el("p", {}, ...holder(device, store.jobs, "Used by ", "No job uses it.")),
    device.others.length ? el("p", { class: "small" }, sentence(device.others.join(", "))) : null,
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `machines of ${device.name}` }, el("table", {}, el("thead", {}, el("tr", {}, ...names)), el("tbody", {}, ...rows))),
  );
}

/** Memory of a GPU, cores of the CPU. */
function meterOf(device, name) {
  if (!device.total) return null;
  const used = device.total - (device.free ?? 0);
  const cores = device.kind === "cpu";
  const words = cores ? `${used} of ${plural(device.total, "core")} in use` : `${scaled(used, "B")} of ${scaled(device.total, "B")} in use`;
  const bar = el("progress", { max: device.total, value: used, "aria-label": cores ? "cores in use" : `memory of ${name} in use` });
  return el("div", { class: "track" }, bar, el("span", { class: "small" }, words));
}

function holder(device, jobs, word = "Leased by ", none = "Free.") {
  const by = device.leased_by;
  if (by === null || by === undefined || by === "") return [none];
  const holders = String(by).split(", ");
  return [word, ...holders.flatMap((one, i) => [i ? ", " : "", JOB.test(one) ? link(JOB.exec(one)[1], jobs) : one]), "."];
}

function link(id, jobs) {
  return el("a", { href: `#/jobs/${encodeURIComponent(id)}` }, jobs.has(id) ? titleOf(jobs.get(id)) : id);
}

function others(device) {
  const found = device.others;
  if (!found || (Array.isArray(found) && found.length === 0)) return null;
  const words = Array.isArray(found) ? found.map((one) => (typeof one === "string" ? one : JSON.stringify(one))).join(", ") : String(found);
  return el("p", { class: "small" }, `Others on it: ${words}`);
}
