"""What a training step really holds, by an independent count: CUDA's allocator, or the profiler's on the CPU."""

from __future__ import annotations

import gc
from typing import Any

import torch
from torch import nn

from autoopt.optim import build, groups, registry
from autoopt.training import set_rate, train
from autoopt.workload import Workload

_STEPS = 3


def measure(workload: Workload, model: nn.Module, name: str, batch: Any) -> dict[str, int]:
    """Bytes of state and peak over the second and third step with an optimizer; all its memory is freed after.

    Args:
        model: on the workload's device.
        batch: on the host; every step takes it.
    """
    spec = registry.get(name)
    # A tiny rate: the weights must stay finite through all the optimizers that follow.
    optimizer = build.build(spec, groups.split(model), {"lr": 1e-9 * spec.start()["lr"]})
    stream = iter([batch] * _STEPS * workload.settings.accumulate)
    loop = train(model, workload, optimizer, stream, steps=_STEPS, multiplier=lambda _: 1.0)
    next(loop)
    if workload.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        for _ in loop:
            pass
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = _profiled(model, optimizer, loop)
    found = {"state_bytes": build.state_bytes(optimizer), "peak_bytes": int(peak)}
    set_rate(optimizer, 1.0)
    model.zero_grad(set_to_none=True)
    del optimizer, loop, stream
    gc.collect()
    if workload.device.type == "cuda":
        torch.cuda.empty_cache()
    return found


def _profiled(model: nn.Module, optimizer: torch.optim.Optimizer, loop: Any) -> int:
    """Every allocation and release of the CPU allocator during a step, on top of what was there before it."""
    model.zero_grad(set_to_none=True)
    held = sum(_storages([*model.parameters(), *model.buffers()]).values()) + build.state_bytes(optimizer)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        next(loop)
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return held + most


def _storages(tensors: list[torch.Tensor]) -> dict[int, int]:
    return {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
