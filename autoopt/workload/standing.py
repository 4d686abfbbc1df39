"""The Trainer that a module has where no `fit` runs: single steps for measuring, `setup`, `configure_optimizers`.

It is a real Trainer that has not begun; what it says of the length and place of the run is the run's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from autoopt.workload import trainer as trainers
from autoopt.workload.context import Context


class Place:
    """Where the run is; read by the Trainer at each question."""

    def __init__(self) -> None:
        self.context: Callable[[], Context] = Context
        self.per_epoch: int | None = None
        self.accumulate = 1

    @property
    def epochs(self) -> int:
        """Lightning's `max_epochs`."""
        return trainers.epochs_of(self.context().total_steps, self.per_epoch, self.accumulate)

    @property
    def epoch(self) -> int:
        """The epoch under way, from 0."""
        if self.per_epoch is None:
            return 0
        return self.context().step * self.accumulate // self.per_epoch


def make(package: Any, device: torch.device, given: trainers.Given, place: Place, datamodule: Any) -> Any:
    """A Trainer of `package` that stands at `place`."""

    class Standing(package.Trainer):  # type: ignore[misc]
        @property
        def global_step(self) -> int:
            return place.context().step

        @property
        def current_epoch(self) -> int:
            return place.epoch

        @property
        def max_steps(self) -> int:
            return place.context().total_steps

        @property
        def max_epochs(self) -> int:
            return place.epochs

        @property
        def estimated_stepping_batches(self) -> int:
            return place.context().total_steps

        @property
        def num_training_batches(self) -> int | float:
            return float("inf") if place.per_epoch is None else place.per_epoch

    standing = trainers.make(package, device, given, precision="fp32", callbacks=(), kind=Standing)
    standing.training, standing.datamodule = True, datamodule
    return standing


def give_optimizer(standing: Any, module: torch.nn.Module) -> None:
    """For a module that asks for its optimizer's rate: one over its parameters that never steps."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    standing.strategy.optimizers = [torch.optim.SGD(parameters, lr=0.0)] if parameters else []
