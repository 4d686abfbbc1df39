// The daemon's HTTP interface: JSON in and out, errors as one kind of exception.

/** What went wrong, as the daemon told it (problem+json), or that it could not be asked (status 0). */
export class Problem extends Error {
  constructor(status, title, detail, hint) {
    super(detail || title);
    this.status = status;
    this.title = title;
    this.hint = hint ?? "";
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "No answer", "The daemon cannot be reached.", "Is `autoopt serve` still running?");
  }
  if (answer.ok) return answer;
  let said = {};
  try {
    said = await answer.json();
  } catch {
    // not the daemon's own words: the status has to do
  }
  const title = said.title ?? `HTTP ${answer.status}`;
  throw new Problem(answer.status, title, said.detail ?? title, said.hint);
}

const json = async (path, options) => (await ask(path, options)).json();
const text = async (path, options) => (await ask(path, options)).text();
const job = (id) => `/v1/jobs/${encodeURIComponent(id)}`;

export const api = {
  jobs: async (before = null) => {
    const found = await json(before === null ? "/v1/jobs" : `/v1/jobs?before=${encodeURIComponent(before)}`);
    return Array.isArray(found) ? found : found.jobs;
  },
  job: (id) => json(job(id)),
  live: (id) => json(`${job(id)}/live`),
  result: (id) => json(`${job(id)}/result`),
  log: (id) => text(`${job(id)}/log`),
  file: (id, name) => text(fileOf(id, name)),
  cancel: (id) => json(`${job(id)}/cancel`, { method: "POST" }),
  retry: (id) => json(`${job(id)}/retry`, { method: "POST" }),
  devices: async () => {
    const found = await json("/v1/devices");
    return Array.isArray(found) ? found : found.devices;
  },
  session: () => json("/v1/session"),
  /** `bundle` is the project as a file, `key` makes a repeated submit one job. */
  submit: (submission, bundle, key) => {
    const body = new FormData();
    body.append("submission", JSON.stringify(submission));
    body.append("bundle", bundle, bundle.name);
    return json("/v1/jobs", { method: "POST", body, headers: { "Idempotency-Key": key } });
  },
};

/** Where one of a finished job's files is. */
export function fileOf(id, name) {
  return `${job(id)}/files/${name}`;
}
