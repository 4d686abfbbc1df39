// The list of jobs: what runs, what waits, what has ended.

import { problemCard } from "./ask.js";
import { el, follow, moment, say } from "./dom.js";
import { about, placesOf, sentence, STATES, titleOf } from "./words.js";

const GROUPS = [
  ["Running", ["running", "cancelling"]],
  ["Waiting", ["queued"]],
  ["Ended", ["done", "failed", "cancelled", "set_aside"]],
];

export function jobs(main, store) {
  document.title = "Jobs - autoopt";
  const state = el("div", { id: "list-state" });
  const groups = GROUPS.map(([name, states]) => {
    const head = el("h2", {}, name);
    const list = el("ul", { class: "jobs" });
    return { name, states, head, list, section: el("section", { hidden: true }, head, list) };
  });
  const older = el("button", { type: "button", hidden: true, on: { click: () => store.older().catch(() => {}) } }, "Older jobs");
  const submit = el("a", { class: "button main", href: "#/submit" }, "Submit a model");
  main.append(el("div", { class: "bar" }, el("h1", {}, "Jobs"), submit), state, ...groups.map((group) => group.section), older);

  // What runs tells its progress only to those who ask.
  const watched = new Map();

  function draw() {
    const all = [...store.jobs.values()];
    for (const { name, states, head, list, section } of groups) {
      const own = all.filter((one) => states.includes(one.state));
      own.sort(name === "Waiting" ? nextFirst : (a, b) => b.created - a.created);
      section.hidden = own.length === 0;
      say(head, `${name} (${own.length})`);
      follow(list, own, (one) => one.id, row, (node, one) => update(node, one, store.lives.get(one.id)));
    }
    older.hidden = !store.more;
    drawState(state, store, all.length);
    for (const one of all) {
      if (one.state === "running" && !watched.has(one.id)) watched.set(one.id, store.watch(one.id));
    }
    for (const [id, stop] of watched) {
      if (store.jobs.get(id)?.state === "running") continue;
      stop();
      watched.delete(id);
    }
  }

  store.addEventListener("jobs", draw);
  store.addEventListener("live", draw);
  draw();
  return () => {
    store.removeEventListener("jobs", draw);
    store.removeEventListener("live", draw);
    for (const stop of watched.values()) stop();
  };
}

/** As the daemon takes them: higher priority first, then older. */
function nextFirst(a, b) {
  return (b.submission.priority ?? 0) - (a.submission.priority ?? 0) || a.created - b.created;
}

function drawState(place, store, count) {
  // What is shown already stays; that it may be old, the banner says.
  const known = store.connection === "login" || (store.loaded && store.problem?.status === 0);
  const kind = store.problem !== null && !known ? "problem" : !store.loaded ? "loading" : count === 0 ? "empty" : "";
  const key = `${kind} ${store.problem?.message ?? ""} ${store.connection}`;
  if (place.dataset.kind === key) return;
  place.dataset.kind = key;
  if (kind === "problem") {
    place.replaceChildren(problemCard(store.problem, () => store.reload()));
  } else if (kind === "loading") {
    place.replaceChildren(el("p", { class: "empty" }, store.connection === "login" ? "Not logged in." : "Loading the jobs ..."));
  } else if (kind === "empty") {
    place.replaceChildren(
      el(
        "div",
        { class: "card empty" },
        el("p", {}, "No jobs yet. Submit a model here, or in a terminal:"),
        el("p", {}, el("code", {}, "autoopt submit model.py")),
      ),
    );
  } else {
    place.replaceChildren();
  }
}

function row(job) {
  const link = el("a", { class: "title", href: `#/jobs/${encodeURIComponent(job.id)}` });
  const bar = el("progress", { max: "1", "aria-label": "progress" });
  const left = el("span", { class: "small left" });
  return el(
    "li",
    {},
    link,
    el("span", { class: "badge" }),
    el("div", { class: "wide track" }, bar, left),
    el("div", { class: "wide small about" }),
    el("div", { class: "wide small reason" }),
  );
}

function update(node, job, live) {
  say(node.querySelector(".title"), titleOf(job));
  drawBadge(node.querySelector(".badge"), job);
  drawProgress(node.querySelector(".track"), job, live);
  drawAbout(node.querySelector(".about"), job);
  const reason = job.error?.message ?? sentence(job.reason ?? "");
  say(node.querySelector(".reason"), reason.length > 300 ? `${reason.slice(0, 300)} ...` : reason);
}

export function drawBadge(badge, job) {
  badge.className = `badge ${job.state}`;
  const partial = job.state === "done" && job.complete === false ? ", stopped early" : "";
  say(badge, (STATES[job.state] ?? job.state) + partial);
}

/** The bar and the words beside it; hidden unless the job runs. */
export function drawProgress(track, job, live) {
  const running = job.state === "running" || job.state === "cancelling";
  track.hidden = !running;
  if (!running) return;
  const progress = live?.progress ?? {};
  const bar = track.querySelector("progress");
  // Without a value the bar says "not known".
  if (Number.isFinite(progress.share)) bar.value = progress.share;
  else bar.removeAttribute("value");
  const left = Number.isFinite(progress.seconds_left) ? `about ${about(progress.seconds_left)} left` : "";
  say(track.querySelector(".left"), [progress.phase || "starting", left].filter(Boolean).join(", "));
}

function drawAbout(place, job) {
  const began = job.ended ?? job.started ?? job.created;
  const word = job.ended ? "ended" : job.started ? "started" : "submitted";
  const details = [job.submission.name ? job.submission.target : null, placesOf(job) || null].filter(Boolean);
  const priority = job.submission.priority ? `priority ${job.submission.priority}` : null;
  const key = JSON.stringify([word, began, details, priority]);
  if (place.dataset.shown === key) return;
  place.dataset.shown = key;
  place.replaceChildren(`${word} `, moment(began), ...[priority, ...details].filter(Boolean).map((text) => ` · ${text}`));
}
