// Training loss by step.

import { duration, number } from "./words.js";
import { wide } from "./scale.js";

/** The best of each optimizer's longest trials in full colour, what trains now dashed, the others faint. */
export function curves(trials, palette) {
  const series = [];
  const drawn = trials.filter((trial) => trial.curve?.length);
  const best = new Set(palette.names().map((name) => bestOf(drawn.filter((t) => t.optimizer === name))));
  for (const trial of drawn) {
    const bold = best.has(trial);
    const running = trial.state === "running";
    const told = `trial ${trial.trial}, lr ${number(trial.lr, 3)}, ${trial.steps} steps`;
    series.push({
      key: bold ? trial.optimizer : `trial ${trial.trial}`,
      name: palette.name(trial.optimizer),
      colour: palette.colour(trial.optimizer),
      dash: running && !bold ? "4 3" : palette.dash(trial.optimizer),
      width: bold ? 2.2 : 1.2,
      opacity: bold ? 1 : running ? 0.8 : 0.28,
      line: true,
      legend: bold,
      points: trial.curve.map(([step, loss], i) => ({
        x: step,
        y: loss,
        text: bold ? `${number(loss)} at step ${step}\n${told}` : null,
        shape: running && i === trial.curve.length - 1 ? "circle" : null,
      })),
    });
  }
  // The bold ones over the faint ones, and in the legend in the order of the palette.
  series.sort((a, b) => a.legend - b.legend || palette.names().indexOf(a.key) - palette.names().indexOf(b.key));
  // What diverges leaves through the top: on an axis that shows it all, the others are one line.
  const sound = drawn.filter((trial) => trial.state !== "diverged");
  const losses = (sound.length ? sound : drawn).flatMap((trial) => trial.curve.map(([, loss]) => loss));
  const log = wide(losses);
  return {
    x: { title: "step" },
    y: { title: "training loss", log, range: rangeOf(losses, log) },
    series,
    note: "Full lines: the best of each optimizer's longest trials. Faint: its others. Dots: trains now.",
  };
}

function rangeOf(losses, log) {
  const [low, high] = [Math.min(...losses), Math.max(...losses)];
  const room = log ? (high / low) ** 0.04 : 0.04 * (high - low);
  return log ? [low / room, high * room] : [low - room, high + room];
}

/** Of some trials, the one of most steps that ended well with the lowest loss; else one that trains now. */
export function bestOf(trials) {
  const ended = trials.filter((trial) => trial.state === "completed" && trial.loss !== null);
  const better = (a, b) => b.steps - a.steps || a.loss - b.loss;
  return ended.sort(better)[0] ?? trials.find((trial) => trial.state === "running") ?? trials[0];
}

/** What a trial says when it is pointed at. */
export function told(trial) {
  const what = trial.loss === null || trial.loss === undefined ? trial.state : number(trial.loss);
  return `${what} after ${trial.steps} steps, seed ${trial.seed}, ${duration(trial.step_seconds)} a step`;
}
