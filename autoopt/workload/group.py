"""The processes that train one model together: what they share out, what they average, what they must agree on.

One step, as `train.py` takes it under torchrun: of the loader's batches rank r of N takes every N-th from the r-th on, and
gradients and losses are means over the ranks. A plain model is averaged by torch's DistributedDataParallel, which is put
around the *loss* and not around the model: the user's functions see their own module and may call whatever they like of it.
A model that `build_model()` has wrapped or sharded itself averages its own gradients.

Every rank runs the same code, and a collective that one of them leaves out stops all the others. So whatever is decided by a
clock or a loss is decided by a number that all of them have: `mean`, `most`, `now`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from datetime import timedelta
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data.distributed import DistributedSampler

from autoopt.errors import WorkloadError
from autoopt.workload.alone import Alone
from autoopt.workload.parallel import Parallel, parallel_of, reshard
from autoopt.workload.seeding import parts_of

_TIMEOUT = timedelta(hours=1)
"""Of torch's own collectives. A rank that hangs is found long before, by the trial's `hang_seconds`."""
_UNFINISHED = "Expected to have finished reduction"


class Group(Alone):
    """This process among those that train one model; torch's default process group is joined.

    Args:
        device: of this rank.
    """

    def __init__(self, device: torch.device) -> None:
        if not dist.is_initialized():
            # Scalars are agreed on by gloo on the host, so that no device has to wait for them.
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=_TIMEOUT)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._model: nn.Module | None = None
        self._parallel: Parallel = "plain"
        self._unused: list[str] | None = None
        self._wrapped: DistributedDataParallel | None = None

    # --- what all ranks have --------------------------------------------------------------------------

    def mean(self, value: float) -> float:
        """The mean over the ranks."""
        return self._reduced([value], dist.ReduceOp.SUM)[0] / self.size

    def sums(self, *values: float) -> list[float]:
        """Sums over the ranks."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def most(self, value: float) -> float:
        """The largest of the ranks' values: of seconds, those of the slowest."""
        return self._reduced([value], dist.ReduceOp.MAX)[0]

    def now(self) -> float:
        """The clock of rank 0, in seconds."""
        told = torch.tensor([super().now()], dtype=torch.float64)
        dist.broadcast(told, 0)
        return float(told)

    @staticmethod
    def _reduced(values: Iterable[float], operation: Any) -> list[float]:
        told = torch.tensor(list(values), dtype=torch.float64)
        dist.all_reduce(told, operation)
        found: list[float] = told.tolist()
        return found

    # --- data -----------------------------------------------------------------------------------------

    def share(self, batches: Generator[Any]) -> Generator[Any]:
        """This rank's share of a stream of batches."""
        with closing(batches):
            yield from islice(batches, self.rank, None, self.size)

    def check_loader(self, loader: Any, label: str) -> None:
        """Raises WorkloadError for a loader that shares its samples out by itself: they would be shared out twice."""
        if any(isinstance(part, DistributedSampler) for part in parts_of(loader)):
            raise WorkloadError(
                f"{label}: train_dataloader() has a DistributedSampler, and its batches are shared out among the processes "
                "already.",
                "Return the loader as for one process: rank r of N is given every N-th of its batches.",
            )

    # --- the model ------------------------------------------------------------------------------------

    def take(self, model: nn.Module, label: str) -> None:
        """Takes in the model that was built. Raises WorkloadError for one whose gradients would not be averaged."""
        self._parallel = parallel_of(model, label)
        self._model, self._wrapped, self._unused = model, None, None

    @property
    def parallel(self) -> Parallel:
        """How the model's gradients are averaged: "plain" by us, else by what `build_model()` has put around it."""
        return self._parallel

    @property
    def averaged_by(self) -> str:
        """What averages the gradients, as a user reads it."""
        return (
            "DistributedDataParallel, put around your loss"
            if self._parallel == "plain"
            else f"your own {self._parallel}"
        )

    def begin(
        self, model: nn.Module, compute: Callable[[nn.Module, Any], Tensor], precision: str = "fp32"
    ) -> None:
        """Before each training: averaging begins anew, whatever an earlier one has left half done.

        Raises: WorkloadError for a precision that a sharded model cannot be trained in.
        """
        if self._wrapped is not None:
            # It may live on in a cycle or in the stack of an error, and would go on averaging the same parameters.
            self._wrapped._remove_autograd_hooks()  # type: ignore[no-untyped-call]
            self._wrapped = None
        if self._parallel == "fully_shard" and precision == "fp16":
            raise WorkloadError(
                "The gradients of fp16 are scaled, and each process would find other ones of a sharded model too large.",
                "Use bf16: PRECISION or --precision.",
            )
        if self._parallel != "plain":
            return
        self._model = model
        with warnings.catch_warnings():
            # Its successor would copy buffers at the start; each rank gathers its own running statistics, as in train.py.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            self._wrapped = DistributedDataParallel(
                _Loss(model, compute),
                broadcast_buffers=False,
                init_sync=False,  # the same seed gives the same weights, which `check_weights` has seen
                find_unused_parameters=self._unused is None or bool(self._unused),
            )

    def rest(self, model: nn.Module) -> None:
        """Before weights are looked at from outside: each rank holds what is its own."""
        if self._parallel == "fully_shard":
            reshard(model)

    def averages(self, model: nn.Module) -> bool:
        """Whether the loss of this model is ours to average the gradients of."""
        return (
            self._wrapped is not None
            and model is self._model
            and torch.is_grad_enabled()
            and self._wrapped.module.model.training
        )

    def loss(self, batch: Any) -> Tensor:
        """The loss of this rank's batch, whose backward averages the gradients over the ranks."""
        assert self._wrapped is not None
        try:
            value: Tensor = self._wrapped(batch)
        except RuntimeError as error:
            if _UNFINISHED not in str(error):
                raise
            raise WorkloadError(
                "Some parameters had no part in the loss of an earlier step, though they had in the first one, and the "
                "processes wait for their gradients.",
                "Use every parameter in every step; or wrap the model yourself in build_model(): "
                "DistributedDataParallel(model, find_unused_parameters=True).",
            ) from error
        return value

    def holding(self, model: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Around forward and backward of one of a step's batches: gradients are averaged with the last one only."""
        around = self._wrapped if self._parallel == "plain" else model
        if last or not isinstance(around, DistributedDataParallel):
            return nullcontext()
        return around.no_sync()

    def settle(self, model: nn.Module) -> str:
        """After the first backward: which parameters have no part in the loss. What the user should know of it."""
        if self._parallel != "plain" or self._unused is not None:
            return ""
        self._unused = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        if not self._unused:
            return ""
        names = ", ".join(self._unused[:3]) + (" and more" if len(self._unused) > 3 else "")
        return (
            f"{len(self._unused)} parameters get no gradient from the loss ({names}): the processes look for them in each "
            "step, which takes time. Freeze what is not to be trained."
        )

    def check_weights(self, model: nn.Module, label: str) -> None:
        """Raises WorkloadError where the ranks have built other weights from the same seed."""
        if self._parallel != "plain":
            return
        total = sum(float(p.detach().double().abs().sum()) for p in model.parameters() if not p.is_meta)
        if self.most(total) != -self.most(-total):
            raise WorkloadError(
                f"{label}: build_model() gives other weights in each process, though all have the same seed.",
                "Draw them from torch, numpy or random, which are seeded before build_model() is called.",
            )

    def same_buffers(self, model: nn.Module) -> None:
        """Rank 0's buffers for all, before the model is evaluated: each has gathered its own running statistics."""
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


class _Loss(nn.Module):
    """The user's loss as a module, for DistributedDataParallel to be put around."""

    def __init__(self, model: nn.Module, compute: Callable[[nn.Module, Any], Tensor]) -> None:
        super().__init__()
        self.model, self._compute = model, compute

    def forward(self, batch: Any) -> Tensor:
        return self._compute(self.model, batch)
