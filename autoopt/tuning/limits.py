"""What the policy, or `--limit`, allows an optimizer to cost."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from autoopt.options import multiple
from autoopt.records import TrialResult
from autoopt.units import show_bytes

OVER = "over the limit"
"""How every reason of an optimizer that costs too much begins."""
_SURELY = 1.25
"""Times an absolute limit from which on an optimizer is left out untried: what was timed before the trials is near."""


@dataclass(frozen=True)
class Excess:
    """A limit that is exceeded: by which factor, and in words."""

    factor: float
    words: str


@dataclass(frozen=True)
class Limits:
    """What the policy allows: bytes of peak memory, seconds per step."""

    memory: int | None = None
    step_time: float | None = None
    step_time_relative: float | None = None

    def excess(
        self, results: Sequence[TrialResult], reference: float, timed: float | None = None
    ) -> Excess | None:
        """By how much an optimizer exceeds the limits, the worst of them; `None` where it does not.

        Args:
            results: of its trials. Their largest peak counts, and the median of their step times.
            reference: seconds of AdamW's step.
            timed: its step over AdamW's, where they were timed side by side: fairer than trials among others.
        """
        peaks = [r.peak_bytes for r in results if r.peak_bytes]
        # Per step of the run's own batch: twice the samples may take twice as long.
        times = [
            r.step_seconds / multiple(r.spec.hyper) for r in results if r.step_seconds and not r.disturbed
        ]
        found = []
        if self.memory and peaks and max(peaks) > self.memory:
            words = f"{OVER}: {show_bytes(max(peaks))}, {show_bytes(self.memory)} are allowed"
            found.append(Excess(max(peaks) / self.memory, words))
        seconds = statistics.median(times) if times else None
        if self.step_time and seconds and seconds > self.step_time:
            found.append(self._slow(seconds))
        relative = timed if timed is not None else seconds / reference if seconds and reference else None
        if self.step_time_relative and relative and relative > self.step_time_relative:
            found.append(self._slower(relative))
        return max(found, key=lambda e: e.factor, default=None)

    def foreseen(self, timed: float, reference: float) -> str:
        """Why an optimizer need not be tried, told from its step over AdamW's; empty where it may."""
        if self.step_time_relative and timed > self.step_time_relative:
            return self._slower(timed).words
        if self.step_time and timed * reference > _SURELY * self.step_time:
            return self._slow(timed * reference).words
        return ""

    def _slow(self, seconds: float) -> Excess:
        assert self.step_time is not None
        words = f"{OVER}: {_seconds(seconds)} a step, {_seconds(self.step_time)} are allowed"
        return Excess(seconds / self.step_time, words)

    def _slower(self, relative: float) -> Excess:
        assert self.step_time_relative is not None
        words = f"{OVER}: {relative:.2g} times AdamW's step, {self.step_time_relative:g} are allowed"
        return Excess(relative / self.step_time_relative, words)


def _seconds(value: float) -> str:
    if value >= 1:
        return f"{value:.3g} s"
    return f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} us"
