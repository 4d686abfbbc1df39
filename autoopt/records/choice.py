"""The chosen optimizer: how to build it, what is expected of it, and how sure that is."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from autoopt.records.base import FreeForm, Hyper, Record
from autoopt.records.trials import RankFigures, Speed
from autoopt.records.workload import GroupRecord


class EffectiveBatch(Record):
    """The samples that an optimizer step sees: the learning rate holds for so many.

    `samples` is the product of the other three; both `None` where a batch holds no tensor that could be counted.
    """

    samples: int | None
    samples_per_batch: int | None
    accumulate: int = Field(ge=1, description="batches that each process takes per optimizer step")
    ranks: int = Field(1, ge=1, description="processes")

    def __str__(self) -> str:
        """As a user reads it.

        >>> str(EffectiveBatch(samples=256, samples_per_batch=64, accumulate=2, ranks=2))
        '256 samples (64 a batch, 2 batches accumulated, 2 processes)'
        """
        parts = [f"{self.samples_per_batch} a batch"] if self.samples_per_batch is not None else []
        if self.accumulate > 1:
            parts.append(f"{self.accumulate} batches accumulated")
        if self.ranks > 1:
            parts.append(f"{self.ranks} processes")
        if self.samples is None:
            return ", ".join(parts) or "1 batch"
        return f"{self.samples} samples" + (f" ({', '.join(parts)})" if len(parts) > 1 else "")


class Choice(Record):
    """An optimizer with everything needed to build it."""

    optimizer: str
    class_: str = Field(alias="class", description="import string, module:name")
    arguments: FreeForm = Field(description="of the constructor; sequences such as betas are lists here")
    hyper: Hyper
    lr_interval: tuple[float, float] | None = None
    groups: list[GroupRecord]
    no_decay: list[str] = Field(description="kinds of parameters without weight decay")
    schedule: str
    warmup_steps: int
    steps: int
    tuned: bool
    effective_batch: EffectiveBatch | None = Field(
        None, description="that the learning rate holds for; None: of a version that did not say"
    )

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class Expected(Record):
    """Loss is at the length it was measured at (`steps`), which the report compares with the real run.

    `steps` are of the run's own batch, so that what has another one is compared at equal samples; `step_seconds` are of a
    step that is really taken.
    """

    loss: float | None
    low: float | None
    high: float | None
    metric: float | None = None
    steps: int
    seeds: int
    step_seconds: float | None
    samples_per_second: float | None
    tokens_per_second: float | None = None
    state_bytes: int | None
    peak_bytes: int | None
    peak_source: str = "unknown"
    ranks: RankFigures | None = Field(
        None,
        description="of the longest trial, by process, where several train a model: the figures above are the slowest's and "
        "the largest's",
    )


class Row(Record):
    """One optimizer in the final table; also an alternative with what it would cost."""

    optimizer: str
    status: Literal["recommended", "tie", "worse", "undecided", "dropped", "failed", "not tried", "edge"]
    hyper: Hyper = Field(default={})
    expected: Expected | None = None
    trials: int = 0
    seconds: float = 0.0
    relative_step_time: float | None = Field(
        None, description="time for as many samples / the recommended one's"
    )
    relative_memory: float | None = None
    loss_at_equal_time: float | None = Field(
        None,
        description="loss after as many seconds as the recommended one was trained for, between its own trials; None: "
        "not known from them",
    )
    pareto: bool = Field(
        False, description="nothing is as good in loss, step time and memory, and better in one"
    )
    seconds_to_adamw: float | None = Field(
        None, description="until its training loss is what that of tuned AdamW is at the end of as many steps"
    )
    seconds_to_adamw_reason: str = Field("", description="why it is not known, or how it was told")
    trade: str = Field("", description="what it trades against AdamW, in a sentence")
    speed: Speed | None = Field(None, description="of its trial with the most measured steps")
    reason: str = ""


class Gain(Record):
    """Against the user's own optimizer; losses are means over the same seeds.

    How sure it is, is said by `probability`, from all trials. The losses and the interval are of the seeds that both ran.
    """

    verdict: Literal["switch", "tune", "keep", "unknown"]
    yours: float | None
    chosen: float | None
    low: float | None = Field(None, description="of `chosen`, 90 %, as far as the seeds that both ran tell")
    high: float | None = None
    probability: float | None = Field(
        None, description="of being better than yours in the real run; None: kept, or nothing is known"
    )
    from_tuning: float | None = None
    from_switching: float | None = None
    paired: bool = True
    sentence: str


class Confidence(Record):
    label: Literal["low", "medium", "high"]
    within_5_percent: float | None = Field(
        None, description="probability that no configuration of the search is better by more than 5 %"
    )
    reasons: list[str]


class Band(Record):
    """Where a loss of the real run is expected with 90 % probability: a promise that the run itself can test.

    Of the training loss it is the mean over the steps `begin` + 1 to `step`, counted from 1; of the validation
    loss the one after `step`.
    """

    of: Literal["training loss", "validation loss"]
    share: float = Field(gt=0, le=1, description="of the real run, where it is tested")
    begin: int = Field(ge=0, description="steps before the window that the training loss is averaged over")
    step: int = Field(ge=1, description="the window's last step")
    low: float
    high: float
