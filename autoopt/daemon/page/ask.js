// Questions before something that cannot be undone, and short news for those who do not see the page.

import { coded, el, say } from "./dom.js";

/** Asks; true when the reader agrees. The browser keeps the focus inside, and Escape means no. */
export function confirmed(question, detail, yes) {
  return new Promise((resolve) => {
    const dialog = el(
      "dialog",
      { "aria-labelledby": "question" },
      el("h2", { id: "question" }, question),
      el("p", {}, detail),
      el(
        "div",
        { class: "actions" },
        el("button", { type: "button", on: { click: () => dialog.close("no") } }, "Keep it"),
        el("button", { type: "button", class: "danger", on: { click: () => dialog.close("yes") } }, yes),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Said by a screen reader, once. */
export function announce(text) {
  say(document.getElementById("news"), text);
}

/** A problem, with its way out. */
export function problemCard(problem, again = null) {
  return el(
    "div",
    { class: "notice bad", role: "alert" },
    el("strong", {}, coded(problem.message)),
    problem.hint ? el("p", {}, coded(problem.hint)) : null,
    again === null ? null : el("p", {}, el("button", { type: "button", on: { click: again } }, "Try again")),
  );
}
