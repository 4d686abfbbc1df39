"""How long trials take: calibrated before the first, measured from then on."""

from __future__ import annotations

from collections.abc import Mapping

from autoopt.optim.spec import OptimSpec
from autoopt.options import multiple
from autoopt.records import BASELINE, Outcome, TrialResult
from autoopt.tuning.plan import Costs, typical_cost

_LATE = 1.05
"""A trial may take so many times what is expected of it, and still end in time."""


class Pace:
    """Seconds of a trial, by what this optimizer's trials really took.

    Args:
        costs: the calibration.
        specs: registry name -> spec.
        timed: registry name -> seconds of a step over AdamW's, where they were timed before.
        rounds: registry name -> the steps that this rests on.
    """

    def __init__(
        self,
        costs: Costs,
        specs: Mapping[str, OptimSpec],
        timed: Mapping[str, float] | None = None,
        rounds: Mapping[str, int] | None = None,
    ) -> None:
        self._costs, self._specs, self._timed, self._rounds = costs, specs, timed or {}, rounds or {}
        self._relative: dict[str, float] = {}

    @property
    def known(self) -> bool:
        """Whether anything was measured yet."""
        return bool(self._relative)

    def observe(self, result: TrialResult) -> None:
        """Learns from a completed trial; recent ones count most, since machines get busy and idle."""
        total, name = result.seconds.get("total"), result.spec.optimizer
        # With a larger batch the optimizer's own part is taken less often: that tells nothing of the run's own.
        if total is None or result.outcome is not Outcome.COMPLETED or multiple(result.spec.hyper) != 1:
            return
        relative = total / self._costs.trial(result.spec.steps)
        old = self._relative.get(name)
        self._relative[name] = relative if old is None else 0.5 * (old + relative)

    def seconds(self, name: str, steps: int) -> float:
        """Expected seconds of a trial; an empty name stands for a typical optimizer."""
        plain = self._costs.trial(steps)
        if name in self._relative:
            return self._relative[name] * plain
        typical = self.typical(name)
        # What is known of others includes how slow the machine is; what this one costs more comes on top.
        slower = sorted(value / self.typical(other) for other, value in self._relative.items())
        if slower:
            return slower[len(slower) // 2] * plain * typical
        return self._costs.trial(steps, typical)

    def in_time(self, name: str, steps: int, elapsed: float, end: float) -> bool:
        """Whether a trial that begins after `elapsed` seconds has ended at `end`."""
        return elapsed + _LATE * self.seconds(name, steps) <= end

    def timed(self, name: str) -> float | None:
        """A step over AdamW's as it was timed before the trials; `None` where it was not."""
        return self._timed.get(name)

    def rests_on(self, name: str) -> str:
        """In words, how many timed steps its cost rests on; empty where that is not known."""
        number = self._rounds.get(name)
        return f"timed in {number} round{'s' if number > 1 else ''}" if number else ""

    def typical(self, name: str) -> float:
        """A step over AdamW's: as it was timed before the trials, else what is usual for its kind."""
        if name == BASELINE:
            return 1.0
        return self._timed.get(name, typical_cost(self._specs.get(name)))
