// Numbers as people read them, the same as in the report: autoopt/report/words.py is the definition, a test compares.

const UNKNOWN = "-";
const known = (value) => typeof value === "number" && Number.isFinite(value);

/** `digits` significant digits as Python's "g" writes them. */
function general(value, digits) {
  if (value === 0) return "0";
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  const power = Number(exponent);
  const trimmed = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  if (power >= -4 && power < digits) return trimmed(value.toFixed(Math.max(0, digits - 1 - power)));
  return `${trimmed(mantissa)}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
}

export function number(value, digits = 4) {
  if (!known(value)) return UNKNOWN;
  if (Math.abs(value) >= 1000 && Math.abs(value) < 1e6) return value.toFixed(0);
  return general(value, digits);
}

export function scaled(value, unit = "") {
  if (!known(value)) return UNKNOWN;
  for (const [prefix, size] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (Math.abs(value) >= size) return `${general(value / size, 3)} ${prefix}${unit}`;
  }
  return `${general(value, 3)} ${unit}`.trimEnd();
}

export function duration(value) {
  if (!known(value)) return UNKNOWN;
  if (value < 1) return value >= 1e-3 ? `${general(value * 1e3, 3)} ms` : `${general(value * 1e6, 3)} us`;
  if (value < 100) return `${general(value, 3)} s`;
  if (value < 6000) {
    const whole = Math.round(value);
    return whole % 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole / 60} min`;
  }
  const minutes = Math.round(value / 60);
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

/** A duration that is only a guess, or that moves: whole seconds. */
export function about(seconds) {
  return known(seconds) ? duration(Math.max(0, Math.round(seconds))).replace("0 us", "0 s") : UNKNOWN;
}

/** Loss with its interval, of an `Expected`. */
export function interval(expected) {
  if (!expected || !known(expected.loss)) return UNKNOWN;
  if (!known(expected.low) || !known(expected.high)) return number(expected.loss);
  return `${number(expected.loss)} [${number(expected.low, 3)}, ${number(expected.high, 3)}]`;
}

/** The bands of a run in one line. */
export function promised(bands) {
  const kinds = [...new Set(bands.map((band) => band.of))];
  return kinds
    .map((kind) => {
      const own = bands.filter((band) => band.of === kind);
      return `${kind} ${own.map((b) => `[${number(b.low, 3)}, ${number(b.high, 3)}] at ${general(100 * b.share, 6)} %`).join(", ")}`;
    })
    .join("; ");
}

export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** A job's state, in a word or two. */
export const STATES = {
  queued: "waiting",
  running: "running",
  cancelling: "being cancelled",
  done: "done",
  failed: "failed",
  cancelled: "cancelled",
  set_aside: "set aside",
};

/** Reasons are told in small letters, as the rest of a sentence. */
export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Where a job runs, or ran last; on a cluster with its share of it. */
export function placesOf(job) {
  const where = job.devices.join(", ");
  return job.places ? `${where}, ${plural(job.places, "place")}` : where;
}

/** What people call a job. */
export function titleOf(job) {
  return job.submission.name || job.submission.target;
}
