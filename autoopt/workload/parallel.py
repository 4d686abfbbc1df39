"""What `build_model()` has done itself to train its model in several processes."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.distributed.tensor import DTensor, Shard
from torch.nn.parallel import DistributedDataParallel

from autoopt.errors import WorkloadError

Parallel = Literal["plain", "DistributedDataParallel", "fully_shard"]
"""Who averages the gradients: nobody yet, or what is around the model."""


def parallel_of(model: nn.Module, label: str) -> Parallel:
    """How a model averages its gradients over the processes.

    Raises:
        WorkloadError: some of its gradients would not be averaged, or its processes must not have different batches.

    >>> parallel_of(nn.Linear(2, 1), "model.py")
    'plain'
    """
    if any(isinstance(module, FullyShardedDataParallel) for module in model.modules()):
        raise WorkloadError(
            f"{label}: build_model() returns a FullyShardedDataParallel, which hides the shapes of its parameters.",
            "Use torch.distributed.fsdp.fully_shard(model), which takes its place.",
        )
    if isinstance(model, DistributedDataParallel):
        return "DistributedDataParallel"
    inner = next((n for n, m in model.named_modules() if isinstance(m, DistributedDataParallel)), None)
    if inner is not None:
        raise WorkloadError(
            f"{label}: {inner} is a DistributedDataParallel, and the rest of the model is not.",
            "Return the model without it, which is then averaged as a whole, or wrap the whole model.",
        )
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    sharded = {name: p for name, p in trained.items() if isinstance(p, DTensor)}
    if not sharded:
        return "plain"
    name, one = next(iter(sharded.items()))
    shards = max(sum(isinstance(place, Shard) for place in p.placements) for p in sharded.values())
    if not any(isinstance(module, FSDPModule) for module in model.modules()) or shards > 1:
        raise WorkloadError(
            f"{label}: {name} is split by {list(one.placements)}: processes of tensor parallelism need the same batch, and "
            "here each has its own.",
            "Shard the model by torch.distributed.fsdp.fully_shard alone.",
        )
    left = [name for name in trained if name not in sharded]
    if left:
        raise WorkloadError(
            f"{label}: {left[0]} is not sharded while {name} is, so that nobody averages its gradients.",
            "Call fully_shard(model) on the whole model too, after its parts.",
        )
    return "fully_shard"


def reshard(model: nn.Module) -> None:
    """Leaves each process its shard alone: a forward without a backward keeps the whole of the outermost parameters."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
