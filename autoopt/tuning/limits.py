"""What the policy allows an optimizer to cost."""

from __future__ import annotations

from dataclasses import dataclass

from autoopt.records import TrialResult


@dataclass(frozen=True)
class Limits:
    """What the policy allows: bytes of peak memory, seconds per step."""

    memory: int | None = None
    step_time: float | None = None
    step_time_relative: float | None = None

    def exceeded(self, result: TrialResult, reference: float) -> str:
        """Why a trial's optimizer is over a limit; empty where it is not.

        Args:
            result: of one of its trials.
            reference: seconds of AdamW's step.
        """
        seconds = None if result.disturbed else result.step_seconds
        if self.memory and result.peak_bytes and result.peak_bytes > self.memory:
            return f"needs {result.peak_bytes / 2**30:.2f} GiB, over the policy's limit"
        if self.step_time and seconds and seconds > self.step_time:
            return f"takes {seconds:.3g} s a step, over the policy's limit"
        if self.step_time_relative and seconds and seconds > self.step_time_relative * reference:
            return f"takes {seconds / reference:.1f} times AdamW's step, over the policy's limit"
        return ""
