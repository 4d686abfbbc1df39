// What of the chosen files goes to the daemon, and which file is likely the model.

import { pack } from "./zip.js";

const ARCHIVES = [".zip", ".tar", ".tar.gz", ".tgz"];
const LEFT_OUT = ["__pycache__", "node_modules", "autoopt-out"];

/** The files as one bundle: an archive as it is, else a zip of them. Raises an Error whose message is for the reader. */
export async function bundle(files) {
  if (files.length === 0) throw new Error("Choose your project: an archive, Python files or a folder.");
  if (files.length === 1 && isArchive(files[0])) return files[0];
  const entries = entriesOf(files);
  if (entries.length === 0) throw new Error("Nothing is left to send: only hidden files and caches were chosen.");
  if (entries.length > 65535) throw new Error("More than 65535 files: choose a smaller folder, or an archive.");
  return pack(entries, "project.zip");
}

/** Paths of Python files among them, the likeliest model first; empty for an archive, whose content is not read here. */
export function candidates(files) {
  const found = entriesOf(files.filter((file) => !isArchive(file))).map((entry) => entry.path);
  const models = found.filter((path) => path.endsWith(".py"));
  return models.sort((a, b) => likely(b) - likely(a) || a.localeCompare(b));
}

function entriesOf(files) {
  return files
    .map((file) => ({ path: within(file.webkitRelativePath) || file.name, file }))
    .filter(({ path }) => !path.split("/").some((part) => part.startsWith(".") || LEFT_OUT.includes(part)));
}

/** A chosen folder is the project: its own name is no part of the paths. */
function within(path) {
  return path ? path.split("/").slice(1).join("/") : "";
}

function isArchive(file) {
  return ARCHIVES.some((ending) => file.name.toLowerCase().endsWith(ending));
}

const likely = (path) => (path === "model.py" ? 2 : path.endsWith("/model.py") ? 1 : 0);
