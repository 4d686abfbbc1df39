// Loss against learning rate: what every length measured and, with the result, what is believed of the real one.

import { wide } from "./scale.js";
import { told } from "./figure_curves.js";
import { SHAPES } from "./symbols.js";
import { BASELINE } from "./palette.js";
import { number } from "./words.js";

/**
 * A dotted line for each optimizer and length, a shape for each length. What diverged, or ended above the loss before
 * training, is a cross at the worst value: its real value would flatten the rest.
 */
export function rates(trials, palette, result, workload) {
  const ended = trials.filter((trial) => rateOf(trial, workload) > 0 && (trial.loss !== null || trial.state === "diverged"));
  const lengths = [...new Set(ended.map((trial) => trial.steps))].sort((a, b) => a - b);
  const finite = ended.map((trial) => trial.loss).filter((loss) => Number.isFinite(loss));
  const before = workload?.initial_loss ?? Infinity;
  const worst = Math.min(Math.max(...finite, 0) || 1, 1.1 * before);
  const log = wide(finite);
  const believed = result?.rates ?? [];
  const of = believed[0]?.of ?? "loss";
  const curves = of === "loss" ? believed : [];
  const series = curves.map((curve, i) => ({
    key: curve.optimizer,
    name: palette.name(curve.optimizer),
    colour: palette.colour(curve.optimizer),
    width: i === 0 ? 3 : 1.8,
    line: true,
    legend: true,
    band: i === 0 ? curve.points.map((p) => ({ x: p.rate, low: p.low, high: p.high })) : null,
    points: curve.points.map((p) => ({
      x: p.rate,
      y: p.mean,
      text: `${number(p.mean)} [${number(p.low, 3)}, ${number(p.high, 3)}] believed at ${curve.steps} steps\nlr ${number(p.rate, 3)}`,
    })),
  }));
  const drawn = new Set(curves.map((curve) => curve.optimizer));
  for (const name of palette.names()) {
    let first = !drawn.has(name);
    for (const steps of lengths) {
      const own = ended.filter((trial) => trial.optimizer === name && trial.steps === steps);
      if (own.length === 0) continue;
      own.sort((a, b) => rateOf(a, workload) - rateOf(b, workload));
      series.push({
        key: name,
        name: palette.name(name),
        colour: palette.colour(name),
        dash: "2 3",
        width: 1,
        line: true,
        legend: first,
        points: own.map((trial) => measured(trial, workload, worst, SHAPES[lengths.indexOf(steps) % SHAPES.length])),
      });
      first = false;
    }
  }
  const shapes = lengths.map((steps, i) => `${SHAPES[i % SHAPES.length]} ${steps}`).join(", ");
  return {
    x: { title: "learning rate", log: true },
    y: { title: "final loss", log, range: curves.length ? rangeOf(finite, worst, curves, log) : null },
    series,
    guides: result ? recommended(result, palette) : [],
    note: noteOf(shapes, curves),
  };
}

function rateOf(trial, workload) {
  if (trial.lr !== null && trial.lr !== undefined) return trial.lr;
  return trial.optimizer === BASELINE ? (workload?.baseline?.hyper?.lr ?? NaN) : NaN;
}

function measured(trial, workload, worst, shape) {
  const lost = trial.loss === null || trial.loss > worst;
  const rate = rateOf(trial, workload);
  return { x: rate, y: lost ? worst : trial.loss, shape: lost ? "cross" : shape, text: `${told(trial)}\nlr ${number(rate, 3)}` };
}

/** From the best, measured or believed, to the worst, and some of the band around the best. */
function rangeOf(finite, worst, curves, log) {
  const all = [worst, ...finite, ...curves.flatMap((curve) => curve.points.map((p) => p.mean))].filter((v) => v <= worst);
  const into = log ? Math.log10 : (v) => v;
  const back = log ? (v) => 10 ** v : (v) => v;
  const values = all.filter((v) => !log || v > 0).map(into);
  const best = curves[0].points.reduce((a, b) => (b.mean < a.mean ? b : a));
  let low = Math.min(...values);
  let high = Math.max(...values);
  // A wide band would flatten what was measured.
  const room = 0.3 * (high - low) || 1;
  const lowest = !log || best.low > 0 ? into(best.low) : -Infinity;
  [low, high] = [Math.max(low - room, Math.min(low, lowest)), high + 0.04 * room];
  return [back(low - 0.04 * (high - low)), back(high + 0.04 * (high - low))];
}

function recommended(result, palette) {
  const choice = result.recommendation;
  const colour = palette.colour(choice.optimizer);
  const found = [];
  if (choice.lr_interval) found.push({ x: choice.lr_interval[0], to: choice.lr_interval[1], colour });
  if (choice.hyper.lr) found.push({ x: choice.hyper.lr, colour });
  return found;
}

function noteOf(shapes, curves) {
  const text = `Shape by steps: ${shapes || "none yet"}. A cross diverged, or ended above the loss before training.`;
  if (curves.length === 0) return text;
  return (
    `${text} Solid lines: what is believed at the real run's ${curves[0].steps} steps, for the recommended optimizer with ` +
    "its 90 % band. Dashed: the recommended rate; shaded: where the best one lies with 90 % probability."
  );
}
