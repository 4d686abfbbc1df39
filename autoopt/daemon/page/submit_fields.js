// The fields of the form: the options of `autoopt profile`, and what the queue asks besides.

const whole = (least) => (text) => (text === "" || (/^-?\d+$/.test(text) && Number(text) >= least) ? "" : `A whole number, ${least} or more.`);
const positive = (text) => (text === "" || Number(text) > 0 ? "" : "A number above 0.");
const duration = (text) => (text === "" || /^(\d+(\.\d+)?\s*[hms]?\s*)+$/i.test(text) ? "" : "A duration such as 90s, 5m or 1h30m.");

/** `kind` says how the text is sent: text, integer, number, list (comma) or lines. */
export const FIELDS = [
  { name: "target", group: "project", label: "Model", kind: "text", list: "targets", required: true, placeholder: "model.py", help: "The file in the project, or package.module:function.", check: (text) => (text ? "" : "Name the file of the model.") },
  { name: "budget", group: "run", label: "Budget", kind: "text", placeholder: "5m", help: "Wall-clock for everything: 90s, 5m, 1h30m. Default: 5m.", check: duration },
  { name: "steps", group: "run", label: "Steps", kind: "integer", mode: "numeric", help: "Optimizer steps of the real run.", check: whole(1) },
  { name: "name", group: "run", label: "Name", kind: "text", help: "What the list calls the job. Default: the model's file." },
  { name: "priority", group: "run", label: "Priority", kind: "integer", mode: "text", placeholder: "0", help: "-100 to 100; higher ones start first.", check: (text) => (text === "" || (/^-?\d+$/.test(text) && Math.abs(Number(text)) <= 100) ? "" : "A whole number from -100 to 100.") },
  { name: "epochs", group: "more", label: "Epochs", kind: "number", mode: "decimal", help: "Of the real run, instead of steps.", check: positive },
  { name: "optimizers", group: "more", label: "Optimizers", kind: "list", placeholder: "adamw, sgd", help: "Compare these only." },
  { name: "policy", group: "more", label: "Policy", kind: "text", placeholder: "balanced", help: "What counts as best, by name." },
  { name: "limit", group: "more", label: "Limit", kind: "text", placeholder: "memory=20GB,step_time=2x", help: "What may be recommended; 2x is relative to AdamW's step." },
  { name: "device", group: "more", label: "Device", kind: "text", placeholder: "auto", help: "auto, cpu or cuda:0; cluster, cluster:cpu or cluster:cuda where the daemon has one." },
  { name: "cores", group: "more", label: "CPU cores", kind: "integer", mode: "numeric", help: "Of a job on the CPU.", check: whole(1) },
  { name: "workers", group: "more", label: "Workers", kind: "integer", mode: "numeric", help: "Trials at once, at most.", check: whole(1) },
  { name: "precision", group: "more", label: "Precision", kind: "text", choices: ["fp32", "bf16", "fp16"], help: "Of the training." },
  { name: "schedule", group: "more", label: "Schedule", kind: "text", choices: ["cosine", "linear", "constant", "wsd"], help: "Of the learning rate." },
  { name: "warmup", group: "more", label: "Warm-up", kind: "number", mode: "decimal", placeholder: "0.05", help: "Below 1: share of the run; from 1 on: its steps.", check: (text) => (text === "" || Number(text) >= 0 ? "" : "A number, 0 or more.") },
  { name: "accumulate", group: "more", label: "Accumulate", kind: "integer", mode: "numeric", help: "Batches per optimizer step.", check: whole(1) },
  { name: "global_batch", group: "more", label: "Global batch", kind: "integer", mode: "numeric", help: "Samples per optimizer step over all processes, instead of accumulate.", check: whole(1) },
  { name: "clip", group: "more", label: "Clip", kind: "number", mode: "decimal", help: "Maximum norm of the gradient.", check: positive },
  { name: "seed", group: "more", label: "Seed", kind: "integer", mode: "numeric", placeholder: "0", help: "Of everything that is random.", check: whole(0) },
  { name: "arguments", group: "more", label: "Arguments", kind: "lines", lines: 3, help: "Handed to your file or function, one a line." },
];

const OF_SUBMISSION = ["target", "arguments", "name", "priority", "cores"];

/** The submission of the form's texts; what is empty is left out. */
export function submissionOf(values) {
  const submission = { options: {} };
  for (const { name, kind } of FIELDS) {
    if (values[name] === "") continue;
    const place = OF_SUBMISSION.includes(name) ? submission : submission.options;
    place[name] = READ[kind](values[name]);
  }
  return submission;
}

const READ = {
  text: (text) => text,
  integer: Number,
  number: Number,
  list: (text) => text.split(",").map((part) => part.trim()).filter(Boolean),
  lines: (text) => text.split("\n").map((line) => line.trimEnd()).filter(Boolean),
};
