// The trade-off: final loss against the time or the memory of a step.

import { bestOf } from "./figure_curves.js";
import { duration, number, scaled } from "./words.js";

const SMALLEST = 4.5;
const LARGEST = 16;

export const COSTS = {
  time: { title: "seconds per step", of: (one) => one.step_seconds, format: duration },
  memory: { title: "peak memory", of: (one) => one.peak_bytes ?? one.state_bytes, format: (value) => scaled(value, "B") },
};

/** A marker for each optimizer: as recommended once there is a result, else its best trial so far. */
export function trade(trials, palette, result, cost) {
  const { title, of, format } = COSTS[cost];
  const shown = (result ? ofResult(result) : ofTrials(trials, palette)).filter((one) => of(one) > 0 && Number.isFinite(one.loss));
  const most = Math.max(1, ...shown.map(memory));
  const series = front(shown, of);
  for (const one of shown) {
    const name = palette.name(one.optimizer);
    series.push({
      key: one.optimizer,
      name,
      colour: palette.colour(one.optimizer),
      points: [
        {
          x: of(one),
          y: one.loss,
          low: one.low,
          high: one.high,
          shape: "circle",
          size: Math.max(SMALLEST, LARGEST * Math.sqrt(memory(one) / most)),
          opacity: one.pareto ? 0.95 : 0.5,
          ring: one.pareto,
          open: one.over,
          label: name,
          text: `${number(one.loss)} after ${one.steps} steps\n${duration(one.step_seconds)} a step\n${scaled(one.peak_bytes, "B")} peak, ${scaled(one.state_bytes, "B")} state`,
        },
      ],
    });
  }
  return { x: { title, format, zero: true, room: 0.12 }, y: { title: "final loss", room: 0.12 }, series, note: noteOf(result) };
}

const memory = (one) => one.peak_bytes ?? one.state_bytes ?? 0;

/** With the time of a step for as many samples as a step of the run's own batch sees. */
function atEqualSamples(one, hyper) {
  return hyper?.batch && one.step_seconds ? { ...one, step_seconds: one.step_seconds / hyper.batch } : one;
}

function ofResult(result) {
  return result.optimizers
    .filter((row) => row.expected && row.expected.steps === result.expected.steps)
    .map((row) => ({ ...atEqualSamples(row.expected, row.hyper), optimizer: row.optimizer, pareto: row.pareto, over: row.reason.startsWith("over the limit") }));
}

function ofTrials(trials, palette) {
  const ended = trials.filter((trial) => trial.state === "completed" && trial.loss !== null);
  const best = palette.names().map((name) => bestOf(ended.filter((trial) => trial.optimizer === name)));
  const found = best.filter((trial) => trial !== undefined).map((trial) => atEqualSamples(trial, trial.hyper));
  return found.map((one) => ({ ...one, pareto: !found.some((other) => beats(other, one)) }));
}

function beats(a, b) {
  const pairs = [[a.loss, b.loss], [a.step_seconds, b.step_seconds], [memory(a), memory(b)]];
  return pairs.every(([x, y]) => x <= y) && pairs.some(([x, y]) => x < y);
}

/** The stepped line that joins what nothing beats in loss and this cost. */
function front(shown, of) {
  const best = [];
  for (const one of shown.filter((o) => !o.over).sort((a, b) => of(a) - of(b) || a.loss - b.loss)) {
    if (best.length === 0 || one.loss < best.at(-1).y) best.push({ x: of(one), y: one.loss });
  }
  if (best.length < 2) return [];
  return [{ key: "front", name: "Pareto front", colour: "#94a3b8", dash: "2 3", width: 1.5, step: true, points: best }];
}

function noteOf(result) {
  const whose = result
    ? "Optimizers that were trained as long as the recommended one, with the interval of their loss."
    : "The best of each optimizer's longest trials so far; lengths may differ.";
  return `${whose} The lower left is better. Areas are peak memory. A ring: no other is as good in loss, step time and memory.`;
}
