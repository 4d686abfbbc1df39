"""A process that trains a model alone: a group of one, which has nothing to share out, to average or to agree on."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from autoopt.workload.parallel import Parallel


class Alone:
    """What a workload asks of the processes that train its model, answered by one of them alone.

    `autoopt.workload.group.Group` answers for several. That it stands in a file of its own keeps torch.distributed out of
    processes that do not need it.
    """

    rank, size = 0, 1

    # --- what all processes have --------------------------------------------------------------------------

    def mean(self, value: float) -> float:
        """The mean over the processes."""
        return value

    def sums(self, *values: float) -> list[float]:
        """Sums over the processes."""
        return list(values)

    def most(self, value: float) -> float:
        """The largest of the processes' values: of seconds, those of the slowest."""
        return value

    def now(self) -> float:
        """The clock of the first process, in seconds."""
        return time.perf_counter()

    # --- data ---------------------------------------------------------------------------------------------

    def share(self, batches: Generator[Any]) -> Generator[Any]:
        """This process's share of a stream of batches."""
        return batches

    def check_loader(self, loader: Any, label: str) -> None:
        """Raises WorkloadError for a loader that shares its samples out by itself: they would be shared out twice."""

    # --- the model ----------------------------------------------------------------------------------------

    @property
    def parallel(self) -> Parallel:
        """How the model's gradients are averaged: "plain" by us, else by what `build_model()` has put around it."""
        return "plain"

    @property
    def averaged_by(self) -> str:
        """What averages the gradients, as a user reads it; empty where nothing has to."""
        return ""

    def take(self, model: nn.Module, label: str) -> None:
        """Takes in the model that was built. Raises WorkloadError for one whose gradients would not be averaged."""

    def begin(
        self, model: nn.Module, compute: Callable[[nn.Module, Any], Tensor], precision: str = "fp32"
    ) -> None:
        """Before each training: averaging begins anew, whatever an earlier one has left half done."""

    def rest(self, model: nn.Module) -> None:
        """Before weights are looked at from outside: each process holds what is its own."""

    def averages(self, model: nn.Module) -> bool:
        """Whether the loss of this model is the group's, to average the gradients of."""
        return False

    def loss(self, batch: Any) -> Tensor:
        """The loss of this process's batch, where the group averages it."""
        raise NotImplementedError

    def holding(self, model: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Around forward and backward of one of a step's batches: gradients are averaged with the last one only."""
        return nullcontext()

    def settle(self, model: nn.Module) -> str:
        """After the first backward: which parameters have no part in the loss. What the user should know of it."""
        return ""

    def check_weights(self, model: nn.Module, label: str) -> None:
        """Raises WorkloadError where the processes have built other weights from the same seed."""

    def same_buffers(self, model: nn.Module) -> None:
        """The first process's buffers for all, before the model is evaluated."""
