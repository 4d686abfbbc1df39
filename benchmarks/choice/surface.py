"""A workload's table as a surface: what any learning rate gives at any length, and how long that takes.

Losses are compared as v = log(loss + c), c = 1 % of the validation loss at initialization: a difference of v is a
regret. Between measured rates and lengths v is linear in log(rate) and log(steps); outside of the rates it only gets
worse, below the shortest length it goes on as between the two shortest. A run that diverged, or ended no better than it
began, counts as the loss at initialization; a rate that is nearer to one that diverged than to one that did not diverges.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.records import BASELINE
from benchmarks.choice import WORKLOADS, jobs, rows
from benchmarks.choice.rows import Row

FLOOR = 0.01
"""c as a share of the loss at initialization."""
DEFAULT_RATE = jobs.BASELINE_START["lr"]
"""Of AdamW where nobody says anything: the baseline of every comparison."""
_FRESH_SEEDS = min(jobs.FRESH)
_FEWEST_RATES = 3


@dataclass(frozen=True)
class Point:
    """What a trial ends with, without its seed's luck."""

    v: float
    diverged: bool = False
    share: float = 1.0
    """Of its steps that were taken: a diverged one is stopped."""


@dataclass(frozen=True)
class Spread:
    """Standard deviations of v between seeds: what all configurations share on a seed, and each one's own."""

    shared: float
    own: float


def surfaces(folder: Path = rows.TABLES, names: Iterable[str] | None = None) -> dict[str, Surface]:
    """The workloads that have a table with anything to choose from, by name; all but the long ones unless named."""
    wanted = set(WORKLOADS if names is None else names)
    found = {}
    for path in sorted(folder.glob("*.json.gz")):
        name = path.name.removesuffix(".json.gz")
        if name in wanted:
            surface = Surface(name, rows.read(path))
            if len(surface.optimizers) >= 2 and "adamw" in surface.optimizers:
                found[name] = surface
    return found


class Surface:
    """The measured runs of one workload.

    Args:
        name: of the workload.
        table: its rows; optimizers without three rates each at the full length and at a shorter one are left out.
    """

    def __init__(self, name: str, table: Sequence[Row]) -> None:
        self.name = name
        self.rows = list(table)
        self.steps = max((r["steps"] for r in table), default=0)
        initial = [r["initial_loss"] for r in table]
        self.initial = float(statistics.median(initial)) if initial else 1.0
        self.c = FLOOR * abs(self.initial)
        self.worst = math.log(self.initial + self.c)
        self._common = _common_settings(table)
        self._tuning: dict[str, dict[int, list[tuple[float, Point]]]] = {}
        self._fresh: dict[str, list[tuple[float, Point]]] = {}
        self._pace: dict[str, float] = {}
        self._curves: dict[str, dict[float, list[tuple[float, float]]]] = {}
        self._build(table)
        self.optimizers = sorted(set(self._tuning) - {BASELINE})
        self.spread = self._measure_spread(table)
        self.startup_seconds = _median([r["startup_seconds"] for r in table])
        self.evaluate_seconds = _median([r["evaluate_seconds"] for r in table if not r["diverged"]])

    # --- asked --------------------------------------------------------------------------------------------

    def v(self, loss: float | None) -> float:
        """log(loss + c), at most that of the loss at initialization."""
        if loss is None or not math.isfinite(loss):
            return self.worst
        return math.log(min(max(loss, 0.0), self.initial) + self.c)

    def loss(self, v: float) -> float:
        """Back from v."""
        return max(0.0, math.exp(v) - self.c)

    def rates(self, optimizer: str) -> list[float]:
        """The learning rates that were measured at the full length."""
        return [float(f"{10**x:.4g}") for x, _ in self._tuning[optimizer][self.steps]]

    def lengths(self) -> list[int]:
        """Steps of the measured runs, longest first."""
        return sorted({steps for by_length in self._tuning.values() for steps in by_length}, reverse=True)

    def line(self, optimizer: str, steps: int) -> list[tuple[float, float | None]]:
        """(log10 of the rate, v) as measured at a length, without those of a length that is not there; `None`: diverged.

        At the full length that of fresh seeds, where there are any.
        """
        points = self._fresh[optimizer] if steps == self.steps else self._tuning[optimizer].get(steps, [])
        return [(x, None if point.diverged else point.v) for x, point in points]

    def trial(self, optimizer: str, rate: float, steps: int, fresh: bool = False) -> Point:
        """What a trial gives: on fresh seeds of the full length what those gave, else what the tuning's seed gave."""
        if optimizer == BASELINE and BASELINE not in self._tuning:
            optimizer = "adamw"
        x = math.log10(rate)
        if fresh and steps >= self.steps:
            return _along(self._fresh[optimizer], x, self.worst)
        lengths = self._tuning[optimizer]
        known = sorted(lengths)
        if steps in lengths:
            return _along(lengths[steps], x, self.worst)
        i = min(max(bisect_left(known, steps), 1), len(known) - 1)
        short, long = known[i - 1], known[i]
        share = math.log(steps / short) / math.log(long / short)
        a, b = _along(lengths[short], x, self.worst), _along(lengths[long], x, self.worst)
        if (a if share < 0.5 else b).diverged:
            return Point(self.worst, True, (a if share < 0.5 else b).share)
        return Point(min(self.worst, a.v + share * (b.v - a.v)))

    def score(self, optimizer: str, rate: float) -> Point:
        """What a choice is worth: the full length on the table's fresh seeds, where it has any near this rate."""
        return self.trial(optimizer, rate, self.steps, fresh=True)

    def course(self, optimizer: str, rate: float, share: float) -> float:
        """The training loss after a share of the full run: the curve of the measured run with the nearest rate."""
        x = math.log10(rate)
        curves = self._curves[optimizer]
        curve = curves[min(curves, key=lambda known: abs(known - x))]
        return float(np.interp(share, [at for at, _ in curve], [loss for _, loss in curve]))

    def best(self) -> tuple[str, float, float]:
        """The best known: optimizer, rate, v."""
        found = [
            (point.v, name, x)
            for name, line in self._fresh.items()
            for x, point in line
            if not point.diverged
        ]
        v, name, x = min(found)
        return name, float(f"{10**x:.4g}"), v

    def step_seconds(self, optimizer: str) -> float:
        """Seconds of one step."""
        return self._pace[optimizer if optimizer in self._pace else "adamw"]

    def seconds(self, optimizer: str, steps: int, share: float = 1.0) -> float:
        """Seconds of a whole trial, start and validation included; of one that diverged, until it was stopped."""
        train = steps * self.step_seconds(optimizer)
        return self.startup_seconds + (train + self.evaluate_seconds if share >= 1 else share * train)

    @property
    def full_run(self) -> float:
        """Seconds of AdamW's full run: the unit of budgets."""
        return self.seconds("adamw", self.steps)

    # --- built --------------------------------------------------------------------------------------------

    def _build(self, table: Sequence[Row]) -> None:
        tuned: dict[str, dict[int, dict[float, list[Row]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        fresh: dict[str, dict[float, list[Row]]] = defaultdict(lambda: defaultdict(list))
        for row in table:
            name = row["optimizer"]
            if _rest(row) != self._common[name]:
                continue
            if row["seed"] < _FRESH_SEEDS:
                tuned[name][row["steps"]][_x(row)].append(row)
            elif row["steps"] == self.steps:
                fresh[name][_x(row)].append(row)
        for name, lengths in tuned.items():
            full = [r for some in lengths.get(self.steps, {}).values() for r in some if not r["diverged"]]
            known = {
                steps: by_rate
                for steps, by_rate in lengths.items()
                if name == BASELINE or len(by_rate) >= _FEWEST_RATES
            }
            if not full or self.steps not in known or len(known) < 2:
                continue
            self._pace[name] = statistics.median(r["seconds"] / r["steps"] for r in full)
            self._curves[name] = {_x(r): r["curve"] for r in full if r["curve"]}
            self._tuning[name] = {
                steps: sorted((x, self._point(some)) for x, some in by_rate.items())
                for steps, by_rate in known.items()
            }
        luck = self._luck(fresh)
        for name, lengths in self._tuning.items():
            self._fresh[name] = [
                (x, self._point(fresh[name][x]) if x in fresh[name] else self._sobered(point, luck))
                for x, point in lengths[self.steps]
            ]

    def _sobered(self, point: Point, luck: float) -> Point:
        return point if point.diverged else Point(min(self.worst, point.v + luck))

    def _point(self, some: Sequence[Row]) -> Point:
        """The mean over seeds; diverged when any of them did."""
        values = [self.v(None if self.failed(r) else r["loss"]) for r in some]
        share = statistics.fmean(r["steps_done"] / r["steps"] for r in some)
        return Point(statistics.fmean(values), any(self.failed(r) for r in some), share)

    def failed(self, row: Row) -> bool:
        """Whether a run diverged, or ended no better than it began."""
        return bool(row["diverged"]) or row["loss"] is None or row["loss"] >= self.initial

    def _luck(self, fresh: dict[str, dict[float, list[Row]]]) -> float:
        """How much worse fresh seeds are than the tuning's, over configurations that ran on both.

        The best of many owe part of their place to their seed; those that never got fresh ones would keep it.
        """
        gaps = []
        for name, by_rate in fresh.items():
            line = dict(self._tuning.get(name, {}).get(self.steps, []))
            for x, some in by_rate.items():
                again = self._point(some)
                if x in line and not line[x].diverged and not again.diverged:
                    gaps.append(again.v - line[x].v)
        return max(0.0, statistics.median(gaps)) if gaps else 0.0

    def _measure_spread(self, table: Sequence[Row]) -> Spread:
        """From the repeats at the full length, pooled over configurations."""
        repeats: dict[tuple[str, float, Any], dict[int, float]] = defaultdict(dict)
        for row in table:
            if row["steps"] == self.steps and not self.failed(row):
                repeats[row["optimizer"], _x(row), _rest(row)][row["seed"]] = self.v(row["loss"])
        groups = [g for g in repeats.values() if len(g) >= 2]
        if not groups:
            return Spread(0.0, 0.0)
        squares = sum((len(g) - 1) * float(np.var(list(g.values()), ddof=1)) for g in groups)
        total = squares / sum(len(g) - 1 for g in groups)
        own = _own_variance(groups)
        return Spread(math.sqrt(max(0.0, total - own)), math.sqrt(own))


def _own_variance(groups: Sequence[dict[int, float]]) -> float:
    """The variance that is left when each configuration's and each seed's mean are taken out."""
    configurations = len(groups)
    seeds = sorted({s for g in groups for s in g})
    cells = [(i, seeds.index(s), v) for i, g in enumerate(groups) for s, v in g.items()]
    design = np.zeros((len(cells), configurations + len(seeds)))
    for row, (i, j, _) in enumerate(cells):
        design[row, i] = design[row, configurations + j] = 1.0
    target = np.array([v for *_, v in cells])
    fitted, _, rank, _ = np.linalg.lstsq(design, target, rcond=None)
    left = target - design @ fitted
    free = len(cells) - int(rank)
    if free <= 0:  # one configuration: nothing tells its own noise from the seeds'
        return sum(float(np.var(list(g.values()), ddof=1)) for g in groups) / configurations
    return float(left @ left) / free


def _along(line: Sequence[tuple[float, Point]], x: float, worst: float) -> Point:
    """The value at x of points sorted by their x."""
    xs = [at for at, _ in line]
    i = bisect_left(xs, x - 1e-9)
    if i < len(xs) and abs(xs[i] - x) < 1e-3:  # rates are written with a few digits
        return line[i][1]
    if i > 0 and abs(xs[i - 1] - x) < 1e-3:
        return line[i - 1][1]
    if i in (0, len(xs)):
        end = line[0] if i == 0 else line[-1]
        inner = line[min(1, len(line) - 1)] if i == 0 else line[max(-2, -len(line))]
        if end[1].diverged:
            return end[1]
        if inner is end or inner[1].diverged:
            return end[1]
        slope = (end[1].v - inner[1].v) / abs(end[0] - inner[0])
        return Point(min(worst, end[1].v + max(0.0, slope) * abs(x - end[0])))
    (left, a), (right, b) = line[i - 1], line[i]
    share = (x - left) / (right - left)
    if (a if share < 0.5 else b).diverged:
        return Point(worst, True, (a if share < 0.5 else b).share)
    return Point(a.v + share * (b.v - a.v))


def _common_settings(table: Sequence[Row]) -> dict[str, Any]:
    """optimizer -> the settings beside the rate that most of its rows have: those of its grid."""
    counts: dict[str, Counter[Any]] = defaultdict(Counter)
    for row in table:
        counts[row["optimizer"]][_rest(row)] += 1
    return {name: seen.most_common(1)[0][0] for name, seen in counts.items()}


def _rest(row: Row) -> Any:
    return tuple(sorted((k, v) for k, v in row["settings"].items() if k != "lr"))


def _x(row: Row) -> float:
    return round(math.log10(row["settings"]["lr"]), 4)


def _median(values: Iterable[float]) -> float:
    known = list(values)
    return float(statistics.median(known)) if known else 0.0
