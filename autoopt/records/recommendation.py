"""The content of recommendation.yaml, and what a user does with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict, Field

from autoopt.records.base import FreeForm, Record
from autoopt.records.choice import Band, Choice, Confidence, Expected, Gain, Row
from autoopt.records.settings import Settings
from autoopt.records.slots import SlotsUsed
from autoopt.records.story import Effort, More, RateCurve, Round, Spent
from autoopt.records.workload import WorkloadReport

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


class Recommendation(Record):
    """What was found: which optimizer, at which settings, why, and how sure that is; the content of recommendation.yaml.

    Made by `choose` and `profile`, or read by `load`; frozen. What to train with is in `recommendation`.

    Example:
        >>> import autoopt
        >>> rec = autoopt.Recommendation.load("autoopt-out/model")  # doctest: +SKIP
        >>> optimizer, scheduler = rec.build(model)  # doctest: +SKIP
        >>> rec.recommendation.optimizer, rec.confidence.label  # doctest: +SKIP
        ('adamw', 'high')
    """

    schema_: Literal["autoopt/1"] = Field("autoopt/1", alias="schema")
    name: str
    recommendation: Choice
    expected: Expected
    against_yours: Gain
    confidence: Confidence
    reason: str
    promise: list[Band] = Field(
        default=[], description="what the real run's losses should be, if all is well"
    )
    optimizers: list[Row] = Field(description="best first; the alternatives and what they cost")
    cut: dict[str, str] = Field(default={})
    settings: Settings
    workload: WorkloadReport
    policy: FreeForm
    ledger: dict[str, float] = Field(description="where the seconds went, summed over workers, and 'wall'")
    spent: Spent | None = Field(None, description="the budget: start-up, training steps and the rest")
    slots: SlotsUsed | None = Field(None, description="how busy they were, and what the others waited for")
    more: More | None = Field(None, description="the next larger budget that can reach more confidence")
    effort: list[Effort] = Field(default=[], description="of every optimizer in every stage")
    race: list[Round] = Field(default=[], description="who was in each round, and who left after it")
    rates: list[RateCurve] = Field(default=[], description="the chosen optimizer's first")
    provenance: FreeForm
    notes: list[str] = Field(default=[])
    complete: bool = Field(True, description="False when the run was stopped early")

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    # What a user does with a recommendation. The work is done in `report.handover`, imported only when
    # called: records stand on the ground floor and load no torch.

    @classmethod
    def load(cls, path: str | Path) -> Recommendation:
        """Read a recommendation.yaml, or the one in a run's folder.

        Raises:
            RunError: there is none, or it cannot be read.
        """
        from autoopt.report import handover

        return handover.load(path)

    def save(self, path: str | Path) -> None:
        """Write it as YAML, atomically."""
        from autoopt.report import handover

        handover.save(self, path)

    def build(self, model: nn.Module, *, effective_batch: int | None = None) -> tuple[Optimizer, LRScheduler]:
        """The recommended optimizer over `model`'s parameters, and its schedule.

        The scheduler's `step()` is called after each optimizer step. What the recommendation keeps of the user's own
        (the optimizer itself, its groups, its schedule) is made by their `configure_optimizers`.

        Args:
            model: any model with the structure that was profiled; on its device already. For a loop of your own
                (`tune`) also parameters, or groups of them.
            effective_batch: samples that an optimizer step will see, over all processes; another number than the rate
                was chosen for is warned of (`autoopt.batch.BatchWarning`), with the rate to begin with instead.

        Raises:
            UsageError: something of the user's own is kept, and there is no file to get it from.
            WorkloadError: the user's file cannot be loaded any more.
        """
        from autoopt.report import handover

        return handover.build(self, model, effective_batch=effective_batch)

    def snippet(self, kind: str = "plain") -> str:
        """The lines to paste into a project.

        Args:
            kind: "plain", "lightning", "transformers", "accelerate", "timm", "hydra", "torchtune" or "torchtitan".

        Raises:
            UsageError: there is no such kind.

        Example:
            >>> rec = autoopt.Recommendation.load("autoopt-out/model")  # doctest: +SKIP
            >>> print(rec.snippet("lightning"))  # doctest: +SKIP
        """
        from autoopt.report import handover

        return handover.snippet(self, kind)

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        from autoopt.report import handover

        return handover.html(self)
