// The form that submits a model: the project goes along as one file, for the daemon reads no path of this browser.

import { api } from "./api.js";
import { announce, problemCard } from "./ask.js";
import { el } from "./dom.js";
import { bundle, candidates } from "./project_files.js";
import { FIELDS, submissionOf } from "./submit_fields.js";
import { scaled } from "./words.js";

export function submit(main, store) {
  document.title = "Submit - autoopt";
  const form = new SubmitForm(store);
  main.append(el("h1", {}, "Submit a model"), form.node);
  return () => {};
}

class SubmitForm {
  #key = fresh();
  #chosen = [];

  constructor(store) {
    this.store = store;
    this.trouble = el("div");
    this.files = el("input", { id: "files", type: "file", multiple: true, "aria-describedby": "files-help" });
    this.folder = el("input", { id: "folder", type: "file", webkitdirectory: true, "aria-describedby": "folder-help" });
    this.found = el("datalist", { id: "targets" });
    this.inputs = Object.fromEntries(FIELDS.map((field) => [field.name, input(field)]));
    this.send = el("button", { type: "submit", class: "main" }, "Submit");
    this.node = el(
      "form",
      { novalidate: true, on: { submit: (event) => this.#submit(event), input: () => (this.#key = fresh()) } },
      this.trouble,
      el("fieldset", { class: "card" }, el("legend", { class: "unseen" }, "Project"), el("h2", {}, "Project"), this.#project()),
      el("fieldset", { class: "card" }, el("legend", { class: "unseen" }, "Run"), el("h2", {}, "Run"), this.#grid("run")),
      el("details", { class: "card" }, el("summary", {}, "More options"), el("p", { class: "small" }, "Left empty, each is what your file says or autoopt's default."), this.#grid("more")),
      el("div", { class: "actions" }, this.send),
      this.found,
    );
    this.files.addEventListener("change", () => this.#choose(this.files, this.folder));
    this.folder.addEventListener("change", () => this.#choose(this.folder, this.files));
  }

  #project() {
    return el(
      "div",
      { class: "grid" },
      place("files", "Files", this.files, "A zip or tar of the project, or its Python files."),
      place("folder", "or a folder", this.folder, "Without hidden files and caches."),
      this.#field(FIELDS.find((field) => field.group === "project")),
    );
  }

  #grid(group) {
    return el("div", { class: "grid" }, FIELDS.filter((field) => field.group === group).map((field) => this.#field(field)));
  }

  #field(field) {
    return place(field.name, field.label, this.inputs[field.name], field.help);
  }

  #choose(chosen, other) {
    this.#chosen = [...chosen.files];
    if (this.#chosen.length) other.value = "";
    const paths = candidates(this.#chosen);
    this.found.replaceChildren(...paths.slice(0, 50).map((path) => el("option", { value: path })));
    if (paths.length && this.inputs.target.value === "") this.inputs.target.value = paths[0];
  }

  async #submit(event) {
    event.preventDefault();
    this.trouble.replaceChildren();
    const values = Object.fromEntries(Object.entries(this.inputs).map(([name, node]) => [name, node.value.trim()]));
    const wrong = this.#wrong(values);
    if (wrong.length > 0) {
      wrong[0].focus();
      return;
    }
    this.send.disabled = true;
    this.send.textContent = "Submitting ...";
    try {
      const project = await bundle(this.#chosen);
      await refuseLarge(project);
      const job = await this.store.submit(submissionOf(values), project, this.#key);
      announce("Submitted.");
      location.hash = `#/jobs/${encodeURIComponent(job.id)}`;
    } catch (problem) {
      this.trouble.replaceChildren(problemCard(problem));
      this.trouble.scrollIntoView({ block: "nearest" });
    } finally {
      this.send.disabled = false;
      this.send.textContent = "Submit";
    }
  }

  /** Marks what cannot be sent; its inputs. */
  #wrong(values) {
    const found = [];
    const check = (node, message) => {
      node.parentElement.querySelector(".wrong").textContent = message;
      node.setAttribute("aria-invalid", String(message !== ""));
      if (message) found.push(node);
    };
    check(this.files, this.#chosen.length ? "" : "Choose a file or a folder.");
    for (const field of FIELDS) check(this.inputs[field.name], field.check?.(values[field.name]) ?? "");
    if (values.steps && values.epochs) check(this.inputs.epochs, "Steps and epochs say the same thing twice: give one.");
    if (values.accumulate && values.global_batch) check(this.inputs.global_batch, "Accumulate and global batch say the same thing twice: give one.");
    const hidden = found.find((node) => node.closest("details"));
    if (hidden) hidden.closest("details").open = true;
    return found;
  }
}

/** What is too large is refused before it is sent: a connection that breaks off in the middle says nothing. */
async function refuseLarge(project) {
  const { max_upload_bytes: most } = await api.session();
  if (!(project.size > most)) return;
  const problem = new Error(`The project has ${scaled(project.size, "B")}, and the daemon takes ${scaled(most, "B")}.`);
  problem.hint = "Leave out what the model does not load, or submit in a terminal of the machine, which sends nothing.";
  throw problem;
}

function place(id, label, node, help) {
  const wrong = el("span", { class: "wrong", id: `${id}-wrong` });
  node.setAttribute("aria-describedby", `${id}-help ${id}-wrong`);
  return el("div", { class: "field" }, el("label", { for: id }, label), node, el("span", { class: "help", id: `${id}-help` }, help), wrong);
}

function input(field) {
  const common = { id: field.name, name: field.name, autocomplete: "off", required: field.required ?? null };
  if (field.choices) return el("select", common, el("option", { value: "" }, "default"), field.choices.map((value) => el("option", { value }, value)));
  if (field.lines) return el("textarea", { ...common, rows: field.lines });
  return el("input", { ...common, type: "text", inputmode: field.mode, placeholder: field.placeholder, list: field.list });
}

/** The key of this submit: sending it twice makes one job. Any change of the form makes it another submit. */
function fresh() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
