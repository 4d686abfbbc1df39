// The race: the best loss of each optimizer so far, who left when, and the chances over the rounds.

import { told } from "./figure_curves.js";
import { duration, number } from "./words.js";

const LEAST = 3;
/** Lines that are drawn at first: those that once had the highest chances. */
const DRAWN = 8;

/** For each optimizer the best loss so far over the run's time; a cross where it left the race. */
export function soFar(trials, rounds, palette) {
  const now = Math.max(0, ...trials.map((t) => t.ended ?? t.began ?? 0), ...rounds.map((r) => r.seconds ?? 0));
  const left = lastLeft(rounds);
  const series = [];
  for (const name of palette.names()) {
    const own = trials.filter((t) => t.optimizer === name && t.state === "completed" && t.loss !== null && Number.isFinite(t.ended));
    own.sort((a, b) => a.ended - b.ended);
    const points = [];
    let best = Infinity;
    for (const trial of own) {
      if (trial.loss >= best) continue;
      best = trial.loss;
      points.push({ x: trial.ended, y: best, shape: "circle", text: `${told(trial)}\nafter ${duration(trial.ended)}` });
    }
    if (points.length === 0) continue;
    const out = left.get(name);
    const gone = out && Number.isFinite(out.seconds);
    const end = { x: gone ? Math.max(out.seconds, points.at(-1).x) : now, y: best };
    points.push(gone ? { ...end, shape: "cross", size: 6, text: `left after ${out.stage}: ${out.why}` } : end);
    series.push({
      key: name, name: palette.name(name), colour: palette.colour(name), dash: palette.dash(name), step: true, legend: true, points,
    });
  }
  return {
    x: { title: "time of the run", format: duration, zero: true },
    y: { title: "best loss so far" },
    series,
    note: "Of completed trials of every length: a longer one has a lower loss. A cross: left the race then, see below for why.",
  };
}

/** Optimizer -> the round after which it left and did not come back, and why. */
export function lastLeft(rounds) {
  const left = new Map();
  for (const round of rounds) {
    for (const name of round.kept) left.delete(name);
    for (const [name, why] of Object.entries(round.dropped)) {
      if (!left.has(name)) left.set(name, { stage: round.stage, seconds: round.seconds, why });
    }
  }
  return left;
}

/** The chance of having the best configuration after each round, as the recommendation tells it. */
export function chances(result, palette) {
  const known = result.race.filter((round) => Object.keys(round.chances).length > 0);
  const names = [...new Set(known.flatMap((round) => Object.keys(round.chances)))];
  const highest = (name) => Math.max(...known.map((round) => round.chances[name] ?? 0));
  names.sort((a, b) => highest(b) - highest(a));
  const series = names.map((name, i) => ({
    key: name,
    name: palette.name(name),
    colour: palette.colour(name),
    dash: palette.dash(name),
    line: true,
    legend: true,
    off: i >= DRAWN,
    points: known
      .filter((round) => name in round.chances)
      .map((round) => {
        const count = round.trials[name] ?? 0;
        const why = round.left[name];
        const tried = count ? `, ${count} trial${count === 1 ? "" : "s"} in it` : "";
        return {
          x: round.name,
          y: 100 * round.chances[name],
          shape: why ? "cross" : "circle",
          open: count === 0,
          text: `${number(100 * round.chances[name], 3)} % after ${round.name}${tried}${why ? `\nleft: ${why}` : ""}`,
        };
      }),
  }));
  return {
    x: { title: "", names: known.map((round) => round.name), format: (name) => name },
    y: { title: "chance of being best, %", zero: true },
    series,
    guides: [{ y: LEAST }],
    note:
      "As believed after each round. Full markers had a trial in it, open ones had none, crosses left after it: below " +
      `${LEAST} % (dotted) an optimizer gets no trials.`,
  };
}
