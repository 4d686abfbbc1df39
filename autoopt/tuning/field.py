"""Every configuration that could be tried, and the trials so far as the belief takes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from autoopt import batch
from autoopt.options import multiple
from autoopt.records import BASELINE, Hyper
from autoopt.tuning import options
from autoopt.tuning.arm import Arm, Key, Tried, lowest
from autoopt.tuning.belief import SETTINGS, Index, Points, Prior, soft
from autoopt.tuning.earlier import MOST, Earlier, Memory
from autoopt.tuning.option import RATES, Option
from autoopt.tuning.posterior import OTHER, SAME, SAME_APART, Fit, Posterior, Seen, fitted
from autoopt.tuning.space import to_coordinate
from autoopt.tuning.view import View

_UNITS: Mapping[str, float] = {"log": 0.5, "one_minus_log": 0.4, "linear": 0.1}
"""Moves of a setting, in its coordinate, that matter about as much as one another."""
_FIT_ALL, _FIT_GROWTH, _FIT_MOST = 128, 1.125, 512
"""Trials up to which each is heard on spread and noise, by which factor more are waited for beyond, and where that ends."""


def fitted_on(trials: int) -> int:
    """How many of the first trials say what the spread and the noise are: the more there are, the less one more tells.

    >>> fitted_on(100), fitted_on(140), fitted_on(144), fitted_on(5000)
    (100, 128, 144, 461)
    """
    number = trials
    if trials > _FIT_ALL:
        number = _FIT_ALL
        while (more := int(_FIT_GROWTH * number)) <= min(trials, _FIT_MOST):
            number = more
    return number


class Field:
    """The options of a run.

    Args:
        prior: speaks of every arm, and of BASELINE where `own` names none.
        arms: by name.
        total: steps of the real run.
        own: registry name and settings of the user's own optimizer, where it is one that we know.
        earlier: runs of other days, that inform the belief; what they tried is no option by that.
        paired: whether trials of one seed have a part of their luck in common.
    """

    def __init__(
        self,
        prior: Prior,
        arms: Mapping[str, Arm],
        total: int,
        own: tuple[str, Hyper] | None = None,
        earlier: Sequence[Earlier] = (),
        *,
        paired: bool = True,
    ) -> None:
        self.prior, self.arms, self.total, self.own = prior, arms, total, own
        self._paired = paired
        self.options: list[Option] = []
        self._known: set[Key] = set()
        self._rows: dict[Key, Points] = {}
        self._targets: tuple[int, Points] | None = None
        self._placed: dict[int, int] = {}
        """Number of a trial -> its place among the points."""
        self._points = self.points([])
        self._last: Posterior | None = None
        self._fitted: tuple[str, Fit] | None = None
        for name, arm in arms.items():
            if arm.tunable:
                for u in RATES:
                    self.add(Option(name, arm.with_rate(arm.start, prior.centre[name] + float(u))))
            else:
                self.add(Option(name, dict(arm.start)))
        self._earlier = self._of_earlier(earlier)
        self._ladders = [(SAME if run.one_zero else SAME_APART) if run.same else OTHER for run in earlier]

    def add(self, option: Option) -> None:
        """One more configuration, unless it is there."""
        if option.key not in self._known:
            self._known.add(option.key)
            self.options.append(option)

    def keep(self, names: Sequence[str]) -> None:
        """Forgets the options of all other optimizers."""
        self.options = [o for o in self.options if o.optimizer in names]
        self._known = {o.key for o in self.options}
        self._targets = self._last = None

    def points(self, options: Sequence[Option]) -> Points:
        """Options at the real run's length."""
        rows = [self._row(o) for o in options]
        return Points(
            np.array([r.optimizer[0] for r in rows], dtype=np.int64),
            np.array([r.family[0] for r in rows], dtype=np.int64),
            np.array([r.u[0] for r in rows]),
            np.zeros(len(rows)),
            np.concatenate([r.others for r in rows]) if rows else np.zeros((0, SETTINGS)),
        )

    def _row(self, option: Option) -> Points:
        if option.key not in self._rows:
            self._rows[option.key] = self._point(option)
        return self._rows[option.key]

    def view(self) -> View:
        """The belief after the trials so far, made from the last one where the trials since then allow it."""
        for arm in self.arms.values():
            for t in arm.tried.values():
                if t.id not in self._placed:
                    self.add(Option(arm.name, t.hyper))
        tried = [(arm, t) for arm in self.arms.values() for t in arm.tried.values() if not t.failed]
        done = [(arm, t) for arm, t in tried if t.y is not None]
        flying = [(arm, t) for arm, t in tried if t.y is None]
        self._place([*done, *flying])
        seen = self._seen(done)
        at, ids = self._where(flying)
        flight = (at, self._seeds(flying), ids)
        self._last = Posterior(self.prior, seen, flight, fit=self._fit(done, seen), before=self._last)
        return View(self, self._last)

    def _seen(self, done: Sequence[tuple[Arm, Tried]]) -> Seen:
        """Finished trials with their gaps to the best of their length, and those of earlier runs."""
        here = [
            (t.steps, (arm.name, t.settings), t.y) for arm, t in done if t.y is not None and not t.diverged
        ]
        zero = lowest([*here, *self._earlier.comparable])
        gaps = [soft(None if t.diverged or t.y is None else t.y - zero[t.steps]) for _, t in done]
        at, ids = self._where(done)
        return Seen(at, np.array(gaps), self._seeds(done), ids) + self._earlier.seen(zero)

    def _fit(self, done: Sequence[tuple[Arm, Tried]], seen: Seen) -> Fit:
        """What the first so many trials that were told show of this network (`fitted_on`): the same in a replay."""
        number = fitted_on(len(done))
        if number < len(done):
            key = str(number)
        else:
            key = f"{seen.ids.tolist()} {seen.gaps.tolist()}"
        if self._fitted is None or self._fitted[0] != key:
            if number < len(done):
                seen = self._seen(sorted(done, key=lambda pair: (pair[1].told, pair[1].id))[:number])
            self._fitted = key, fitted(self.prior, seen, self._ladders)
        return self._fitted[1]

    def targets(self) -> Points:
        """All options at the real run's length."""
        if self._targets is None or self._targets[0] != len(self.options):
            self._targets = len(self.options), self.points(self.options)
        return self._targets[1]

    def doublings(self, steps: int) -> float:
        """From a trial's length to the real run's."""
        return math.log2(self.total / steps)

    def uninformed(self) -> View:
        """The belief without earlier runs."""
        return Field(self.prior, self.arms, self.total, self.own, paired=self._paired).view()

    def everybody(self) -> View:
        """The belief about all optimizers, also those whose options were forgotten."""
        runs = self._earlier.runs
        return Field(self.prior, self.arms, self.total, self.own, runs, paired=self._paired).view()

    def remembered(self) -> list[int]:
        """Trials of each earlier run that inform the belief."""
        memory = self._earlier
        return [int((memory.at.group == group).sum()) for group in range(1, len(memory.runs) + 1)]

    def _of_earlier(self, earlier: Sequence[Earlier]) -> Memory:
        """Trials of earlier runs by optimizers of this one, each run a group; of too many the longest."""
        found = [
            (past.steps / run.total, group, run, past)
            for group, run in enumerate(earlier, start=1)
            for past in run.trials
            if past.optimizer in self.arms
        ]
        found = sorted(found, key=lambda item: (-item[0], item[1]))[:MOST]
        at = self.points([Option(past.optimizer, past.hyper) for *_, past in found])
        # Of the same workload a trial is what one of this run would be; of another its share of the real run counts.
        shares = np.array([past.steps / self.total if run.same else share for share, _, run, past in found])
        # Each network's rates count from what is usual for its size.
        moved = np.array([self.prior.moved(run.parameters) for _, _, run, _ in found])
        group = np.array([group for _, group, _, _ in found], dtype=np.int64)
        placed = Points(at.optimizer, at.family, at.u - moved, -np.log2(shares), at.others, group)
        return Memory(earlier, placed, [past for *_, past in found])

    def _seeds(self, tried: Sequence[tuple[Arm, Tried]]) -> Index:
        """By which trials share their luck; each has its own where they are not paired."""
        return np.array([t.seed if self._paired else -t.id for _, t in tried], dtype=np.int64)

    def _place(self, tried: Sequence[tuple[Arm, Tried]]) -> None:
        """Gives trials that are new their points."""
        new = [(arm, t) for arm, t in tried if t.id not in self._placed]
        if new:
            points = self.points([Option(arm.name, t.hyper) for arm, t in new])
            s = np.array([self.doublings(t.steps) for _, t in new])
            self._points += Points(points.optimizer, points.family, points.u, s, points.others)
            for _, t in new:
                self._placed[t.id] = len(self._placed)

    def _where(self, tried: Sequence[tuple[Arm, Tried]]) -> tuple[Points, Index]:
        """The points of trials, and their numbers."""
        ids = [t.id for _, t in tried]
        return self._points.take(np.array([self._placed[i] for i in ids], dtype=np.int64)), np.array(
            ids, dtype=np.int64
        )

    def _point(self, option: Option) -> Points:
        name, hyper = option.optimizer, option.hyper
        if name == BASELINE:
            if self.own is None:
                return self.prior.points(BASELINE, [self.prior.centre[BASELINE]], 0.0)
            name, hyper = self.own
        arm = self.arms[name]
        rate = math.log10(hyper["lr"]) if "lr" in hyper else self.prior.centre[name]
        # What is known of rates holds for the run's own batch, so that of another counts as what it would be there.
        rate -= batch.exponent(name) * math.log10(multiple(hyper))
        return self.prior.points(name, [rate], 0.0, _others(arm, hyper))


def _others(arm: Arm, hyper: Hyper) -> list[float]:
    """Settings beside the rate, as steps from the optimizer's start."""
    found = []
    for name, span in arm.ranges.items():
        if name != "lr" and name in arm.start:
            value = min(max(hyper.get(name, arm.start[name]), span.low), span.high)
            start = min(max(arm.start[name], span.low), span.high)
            moved = to_coordinate(value, span.scale) - to_coordinate(start, span.scale)
            found.append(moved / _UNITS[span.scale])
    found += [float(options.place(hyper.get(name), ladder, name)) for name, ladder in arm.ladders.items()]
    return found
