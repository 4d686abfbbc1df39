// Start: the store, the address, the banner about the connection.

import { announce } from "./ask.js";
import { coded } from "./dom.js";
import { Store } from "./store.js";
import { devices } from "./view_devices.js";
import { job } from "./view_job.js";
import { jobs } from "./view_jobs.js";
import { submit } from "./view_submit.js";
import { STATES, titleOf } from "./words.js";

const VIEWS = { jobs, submit, devices };
const BANNERS = {
  connecting: "",
  open: "",
  lost: "The connection is lost. Trying again; what is shown may be old.",
  polling: "No live updates at the moment: the page asks every few seconds.",
  login: "This page is not logged in. A login link works once: `autoopt serve --link` prints a new one.",
};

const store = new Store();
const main = document.getElementById("main");
let close = () => {};

function route() {
  close();
  const [page, id] = location.hash.replace(/^#\//, "").split("/");
  const name = Object.hasOwn(VIEWS, page) ? page : "jobs";
  main.replaceChildren();
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.getAttribute("href") === `#/${name}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  close = name === "jobs" && id ? job(main, store, decoded(id)) : VIEWS[name](main, store);
}

function decoded(id) {
  try {
    return decodeURIComponent(id);
  } catch {
    return id;
  }
}

/** After a change of page the reader stands at its head; at the first one the browser's own place is right. */
function arrive() {
  route();
  const head = main.querySelector("h1");
  head?.setAttribute("tabindex", "-1");
  head?.focus();
  scrollTo(0, 0);
}

function connection() {
  const banner = document.getElementById("connection");
  banner.replaceChildren(...coded(BANNERS[store.connection]));
  banner.hidden = BANNERS[store.connection] === "";
  document.documentElement.dataset.connection = store.connection;
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part of the address after # names the page
  main.focus();
});
store.addEventListener("connection", connection);
store.addEventListener("job", ({ detail: { job: now, before } }) => {
  if (before !== null && before !== now.state) announce(`${titleOf(now)} is ${STATES[now.state] ?? now.state}.`);
});
addEventListener("hashchange", arrive);
route();
store.start();
