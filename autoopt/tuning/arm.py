"""One optimizer in the race: what it was tried with, and what to try next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from autoopt.optim.spec import Range
from autoopt.records import Hyper
from autoopt.tuning import horizon, study
from autoopt.tuning.space import shift

Key = tuple[str, tuple[tuple[str, float], ...]]
"""Identity of a configuration: the optimizer and its sorted hyperparameters."""

WIDE_STEP = 0.5
FINE_STEP = 0.25
_NEAR = 0.5
_RESOLVED = 0.15
"""Decades; a bracket finer than this is finer than the noise."""
_NUDGES: Mapping[str, tuple[float, ...]] = {
    "log": (0.5, -0.5),
    "one_minus_log": (0.4, -0.4),
    "linear": (0.05, -0.05),
}


def key_of(optimizer: str, hyper: Hyper) -> Key:
    """The identity of a configuration."""
    return optimizer, tuple(sorted(hyper.items()))


@dataclass(frozen=True)
class Tried:
    """A trial of an arm: in flight while `y` is None and `failed` is False."""

    id: int
    stage: str
    steps: int
    seed: int
    hyper: Hyper
    y: float | None = None
    diverged: bool = False
    failed: bool = False

    @property
    def pending(self) -> bool:
        return self.y is None and not self.failed


@dataclass
class Arm:
    """An optimizer's starting point, ranges and trials.

    Args:
        name: registry name, or BASELINE.
        start: full starting point; empty for the user's own optimizer as it is.
        ranges: searched names; "lr" first. Empty: never tuned.
    """

    name: str
    start: Hyper
    ranges: Mapping[str, Range]
    tried: dict[int, Tried] = field(default_factory=dict)
    dropped: str = ""

    def __post_init__(self) -> None:
        if "lr" in self.ranges:
            # A best value at the edge means that the range was wrong, so the study may look a decade beyond.
            span = self.ranges["lr"]
            self.ranges = {**self.ranges, "lr": replace(span, low=span.low / 10, high=span.high * 10)}

    @property
    def tunable(self) -> bool:
        return "lr" in self.ranges

    def at(self, steps: int, seed: int) -> list[Tried]:
        """Trials of one length and seed that count: finished or in flight, oldest first."""
        return [t for t in self.tried.values() if t.steps == steps and t.seed == seed and not t.failed]

    def best(self, steps: int, seed: int) -> Tried | None:
        """The finished trial with the lowest score at a length that did not diverge."""
        done = [t for t in self.at(steps, seed) if t.y is not None and not t.diverged]
        return min(done, key=lambda t: (t.y, t.id), default=None)

    def failures(self) -> int:
        return sum(t.failed for t in self.tried.values())

    def points(self, seeds: Iterable[int] | None = None) -> list[horizon.Point]:
        """Finished trials as points of log10(learning rate)."""
        wanted = None if seeds is None else set(seeds)
        return [
            horizon.Point(t.steps, math.log10(t.hyper["lr"]), t.y, t.diverged)
            for t in self.tried.values()
            if t.y is not None and "lr" in t.hyper and (wanted is None or t.seed in wanted)
        ]

    def at_edge(self, steps: int, seed: int) -> bool:
        """Whether the best learning rate of this length is the highest or the lowest that was tried."""
        best = self.best(steps, seed)
        rates = {t.hyper["lr"] for t in self.at(steps, seed) if t.y is not None and "lr" in t.hyper}
        return best is not None and len(rates) > 1 and best.hyper["lr"] in (min(rates), max(rates))

    # --- what to try next ---------------------------------------------------------------------------------

    def rate_move(self, steps: int, seed: int, step: float) -> Hyper | None:
        """The next learning rate of a bracket at one length; `None` when it is resolved or at the end of the range.

        Starts at the prior, walks while it gets better, then halves the wider side of the best one.
        """
        move = self._rate_move(steps, seed, step)
        return None if move is None or self._known(move, steps, seed) else move

    def _rate_move(self, steps: int, seed: int, step: float) -> Hyper | None:
        seen = self.at(steps, seed)
        if not seen:
            return dict(self.start)
        done = [t for t in seen if t.y is not None]
        xs = sorted({math.log10(t.hyper["lr"]) for t in seen})
        if not done:
            return self._with_rate(dict(self.start), xs[-1] + step)
        if all(t.diverged for t in done):
            return self._with_rate(dict(done[-1].hyper), xs[0] - 2 * step)
        best = min(done, key=lambda t: (t.diverged, t.y, t.id))
        x = math.log10(best.hyper["lr"])
        i = min(range(len(xs)), key=lambda j: abs(xs[j] - x))
        base = dict(best.hyper)
        if i == len(xs) - 1 and (i > 0 or len(xs) == 1):
            return self._with_rate(base, xs[i] + step)
        if i == 0:
            return self._with_rate(base, xs[0] - step)
        down, up = xs[i] - xs[i - 1], xs[i + 1] - xs[i]
        if max(down, up) < 2 * _RESOLVED:
            return None
        return self._with_rate(base, xs[i] - down / 2 if down >= up else xs[i] + up / 2)

    def deep_move(self, steps: int, seed: int, run_seed: int, number: int) -> Hyper | None:
        """The next point at the final length: first the rate that shorter trials promise, then its neighbours,
        then one other hyperparameter at a time, then Optuna's sampler over all of them."""
        seen = self.at(steps, seed)
        if not seen:
            return self._promised(steps)
        if not self.tunable:
            return None
        best = self.best(steps, seed)
        if len(seen) < 3 or best is None or (self.at_edge(steps, seed) and len(seen) < 5):
            move = self._neighbour(steps, seed) if len(seen) == 1 else self.rate_move(steps, seed, FINE_STEP)
            if move is not None and not self._known(move, steps, seed):
                return move
        if best is None:
            return None
        for move in self._nudges(best.hyper):
            if not self._known(move, steps, seed):
                return move
        move = study.suggest(
            self.name,
            self.ranges,
            self._told(),
            [t.hyper for t in seen if t.pending],
            seed=run_seed,
            number=number,
        )
        # The study's range is the widest; around a measured optimum farther rates are a waste.
        x, centre = math.log10(move["lr"]), math.log10(best.hyper["lr"])
        move = {
            **self.start,
            **move,
            **(self._with_rate({}, min(max(x, centre - _NEAR), centre + _NEAR)) or {}),
        }
        return None if self._known(move, steps, seed) else move

    def _promised(self, steps: int) -> Hyper | None:
        """The best configuration so far, with the rate that the horizon model expects to be best at `steps`."""
        done = [t for t in self.tried.values() if t.y is not None and not t.diverged]
        if not done or not self.tunable:
            return None if self.tunable and self.tried else dict(self.start)
        longest = max(t.steps for t in done)
        best = min((t for t in done if t.steps == longest), key=lambda t: (t.y, t.id))
        estimate = horizon.best_at(self.points(), steps)
        if estimate is None:
            return None
        # A rate that was trained itself is worth more than one between two: no move for less than the bracket's noise.
        if abs(estimate.x - math.log10(best.hyper["lr"])) < _RESOLVED:
            return dict(best.hyper)
        return self._with_rate(dict(best.hyper), estimate.x)

    def _neighbour(self, steps: int, seed: int) -> Hyper | None:
        """A second rate at the final length, on the side that shorter trials found the better one."""
        first = self.at(steps, seed)[0]
        x = math.log10(first.hyper["lr"])
        if first.diverged:
            return self._with_rate(dict(first.hyper), x - 2 * FINE_STEP)
        shorter = [p for p in self.points() if p.steps < steps]
        above = [p.y for p in shorter if 0.05 < p.x - x <= 2 * WIDE_STEP]
        below = [p.y for p in shorter if 0.05 < x - p.x <= 2 * WIDE_STEP]
        up = bool(above) and (not below or min(above) < min(below))
        return self._with_rate(dict(first.hyper), x + (FINE_STEP if up else -FINE_STEP))

    def _nudges(self, base: Hyper) -> list[Hyper]:
        moves = []
        for sign in (0, 1):
            for name, span in self.ranges.items():
                if name != "lr" and name in base:
                    moved = shift(base[name], _NUDGES[span.scale][sign], span)
                    if moved != base[name]:
                        moves.append({**base, name: moved})
        return moves

    def _with_rate(self, hyper: Hyper, x: float) -> Hyper | None:
        span = self.ranges["lr"]
        x = min(max(x, math.log10(span.low)), math.log10(span.high))
        return {**hyper, "lr": float(f"{10**x:.2g}")}

    def _known(self, hyper: Hyper, steps: int, seed: int) -> bool:
        return any(key_of(self.name, t.hyper) == key_of(self.name, hyper) for t in self.at(steps, seed))

    def _told(self) -> list[study.Told]:
        done = [t for t in self.tried.values() if t.y is not None and set(self.ranges) <= set(t.hyper)]
        lowest = {
            n: min(t.y for t in done if t.steps == n and t.y is not None) for n in {t.steps for t in done}
        }
        return [study.Told(t.hyper, t.y - lowest[t.steps]) for t in done if t.y is not None]
