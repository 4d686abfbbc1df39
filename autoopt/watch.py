"""The user's real run against what its recommendation promised, while there is time to do something about it.

>>> from autoopt.records import Band
>>> watch = Watch([Band(of="training loss", share=0.5, begin=0, step=2, low=0.9, high=1.1)])
>>> watch(1, 1.2), watch(2, 0.9).state
(None, 'inside')
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, SupportsFloat

from autoopt.records import Band, Recommendation

State = Literal["inside", "above", "below", "not finite"]
_HALF = 0.5
"""Share of the run until which it is early enough to start again with other settings."""


@dataclass(frozen=True)
class Verdict:
    """What a checkpoint of the run says of the promise.

    Args:
        state: where the loss is; "not finite" as soon as one is seen.
        step: steps done.
        loss: mean training loss over the band's window, or the validation loss.
        band: what was promised; None where the loss is not finite.
        advice: what to do, in words; empty when inside.
    """

    state: State
    step: int
    loss: float
    band: Band | None
    advice: str

    def __str__(self) -> str:
        if self.band is None:
            return f"step {self.step}: the loss is {self.loss}; {self.advice}"
        where = f"{self.band.of} {self.loss:.4g} at {100 * self.band.share:g} % of the run"
        range_ = f"[{self.band.low:.4g}, {self.band.high:.4g}]"
        said = f"{where}: {self.state} the expected {range_}"
        return f"{said}; {self.advice}" if self.advice else said


class Watch:
    """Called after each optimizer step, it answers at 1, 5, 10, 25 and 100 % of the run.

    A loss that is a tensor is kept as it is and read at a band's last step, so a GPU is waited for five times in
    a run. A step that is told twice counts once. After a resume, `load_state_dict` goes on in mid-window; without it a
    window whose beginning was not seen is passed over, as half a window is another number.

    Args:
        promise: a recommendation, or its bands.

    Example:
        >>> watch = Watch.load("autoopt-out/model")  # doctest: +SKIP
        >>> if verdict := watch(step, loss):  # doctest: +SKIP
        ...     print(verdict)
    """

    def __init__(self, promise: Recommendation | Iterable[Band]) -> None:
        bands = promise.promise if isinstance(promise, Recommendation) else promise
        self._ends = [band for band in bands if band.of == "validation loss"]
        self._bands = [band for band in bands if band.of == "training loss"]
        self._sums: list[Any] = [0.0] * len(self._bands)
        self._counts = [0] * len(self._bands)
        self._step = 0
        self._dead = False

    @classmethod
    def load(cls, path: str | Path) -> Watch:
        """Of a recommendation.yaml, or the one in a run's folder.

        Raises:
            RunError: there is none, or it cannot be read.
        """
        return cls(Recommendation.load(path))

    @property
    def bands(self) -> list[Band]:
        """What is watched for."""
        return [*self._bands, *self._ends]

    def __call__(self, step: int, loss: SupportsFloat) -> Verdict | None:
        """Takes in the training loss of a step.

        Args:
            step: optimizer steps done, this one included: the first is 1.
            loss: of this step's batches, a float or a tensor of one element, on any device.

        Returns:
            A verdict at the last step of a band, and at the first loss that is known not to be finite; a tensor is
            looked at only at a band's last step, a float at once. None otherwise.
        """
        if step <= self._step or self._dead:
            return None
        self._step = step
        value = loss.detach() if hasattr(loss, "detach") else loss
        if isinstance(value, float) and not math.isfinite(value):
            return self._not_finite(value)
        answer = None
        for i, band in enumerate(self._bands):
            if not band.begin < step <= band.step:
                continue
            self._sums[i] = self._sums[i] + value
            self._counts[i] += 1
            if step == band.step:
                mean = float(self._sums[i]) / self._counts[i]
                if not math.isfinite(mean):
                    return self._not_finite(mean)
                if self._counts[i] == band.step - band.begin:
                    answer = judge(band, step, mean)
        return answer

    def validation(self, loss: SupportsFloat) -> Verdict | None:
        """Takes in the validation loss after the last step; None when there is no promise of it."""
        value = float(loss)
        if not math.isfinite(value):
            return self._not_finite(value)
        return judge(self._ends[0], self._ends[0].step, value) if self._ends else None

    def callback(self, say: Callable[[str], None] = print) -> Any:
        """A callback for `transformers.Trainer`, which says each verdict. The trainer's own logs give the loss.

        The trainer averages its loss over `logging_steps`: set it to 1, or to a divisor of a hundredth of the run.

        Raises:
            ImportError: transformers is not installed.
        """
        from transformers import TrainerCallback

        watch = self

        class WatchCallback(TrainerCallback):
            def __init__(self) -> None:
                self._told = 0

            def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:  # noqa: ARG002
                self._told = state.global_step

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:  # noqa: ARG002
                if logs and "loss" in logs:
                    for step in range(self._told + 1, state.global_step + 1):
                        verdict = watch(step, float(logs["loss"]))
                        if verdict is not None:
                            say(str(verdict))
                    self._told = state.global_step

        return WatchCallback()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; it reads tensors, and so waits for the device."""
        return {"step": self._step, "sums": [float(s) for s in self._sums], "counts": list(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint of a watch over the same bands.

        Raises:
            ValueError: it is of other bands.
        """
        if len(state["sums"]) != len(self._bands):
            raise ValueError("this state is of a watch over other bands")
        self._step, self._sums, self._counts = state["step"], list(state["sums"]), list(state["counts"])

    def _not_finite(self, value: float) -> Verdict:
        self._dead = True
        advice = "stop: halve the learning rate, and look at the batch of this step and at the precision"
        return Verdict("not finite", self._step, value, None, advice)


def judge(band: Band, step: int, loss: float) -> Verdict:
    """A loss against its band."""
    if loss > band.high:
        return Verdict("above", step, loss, band, _above(band))
    if loss < band.low:
        return Verdict("below", step, loss, band, _below())
    return Verdict("inside", step, loss, band, "")


def _above(band: Band) -> str:
    same = "check that data, batch size, precision and schedule are those that were profiled"
    if band.share <= _HALF:
        return f"{same}; if they are, start again with half the learning rate"
    return f"{same}; if they are, the trials were too short or too few: profile with a larger budget"


def _below() -> str:
    return "better than expected; make sure that the loss is averaged as it was when profiled"
