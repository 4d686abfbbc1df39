"""A handful of steps that are timed and then undone."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from autoopt.timing import compiled_seconds
from autoopt.workload import tokens
from autoopt.workload.data import clone
from autoopt.workload.probes import counting_autocast, outside

if TYPE_CHECKING:
    from autoopt.workload.workload import Workload

_WARM, _TIMED = 3, 10
_SECONDS = 5.0
"""Time for the timed steps; at least two are taken, however slow."""


@dataclass(frozen=True)
class Calibration:
    """Times in seconds, medians of warm steps; `batch` is the first one, on the host; `norms` of unclipped gradients."""

    batch: Any
    first_loss: float
    first_step: float
    step: float
    data: float
    sparse: bool
    outside: list[Tensor]
    autocasts: list[str]
    norms: list[float]
    looked: tokens.Looked
    """What the model looked up for the first batch; see `tokens`."""


def calibrate(workload: Workload, model: nn.Module, seed: int, *, quick: bool = False) -> Calibration:
    """Takes steps with AdamW at rate 0 (SGD where gradients are sparse) and times them.

    The weights stay as they are; other state that a step changes is restored by the next `start`.
    """
    batches = workload.batches(seed)
    batch = clone(next(batches))
    with workload.autocast(), counting_autocast() as autocasts, tokens.looking(model) as looked:
        # Ours is entered before the counting.
        loss = workload.loss(model, clone(batch))
    # The leaves of a sharded model are parameters that are whole for as long as they are needed.
    sharded = workload.group.parallel == "fully_shard"
    strangers = [] if sharded else outside(loss, model)
    begin = time.perf_counter()
    loss.backward()  # type: ignore[no-untyped-call]
    sparse = any(p.grad is not None and p.grad.is_sparse for p in model.parameters())
    warm, timed = (1, 3) if quick else (_WARM, _TIMED)
    compute: list[float] = []
    waiting: list[float] = []
    parameters = [p for p in model.parameters() if p.requires_grad]
    norms: list[float] = []
    optimizers = _optimizers(workload, model, sparse)
    optimizer, spare = next(optimizers), not sparse
    try:
        for index in range(warm + timed):
            fits = True
            try:
                waited, took = _step(workload, model, optimizer, batches)
            except (RuntimeError, MemoryError) as error:
                if not spare or not ran_out(error):
                    raise
                fits = False
            if not fits:  # outside the handler, whose traceback holds on to tensors
                del optimizer
                optimizer, spare = next(optimizers), False
                waited, took = _step(workload, model, optimizer, batches)
            compute.append(workload.group.most(took))
            waiting.append(workload.group.most(waited))
            if not sparse and workload.settings.clip is None:
                norms.append(_norm(parameters))
            if index >= 2 and workload.group.most(time.perf_counter() - begin) > _SECONDS:
                break
    finally:
        batches.close()  # type: ignore[attr-defined]
    skip = min(warm, len(compute) - 2)
    return Calibration(
        batch,
        workload.group.mean(float(loss.detach())),
        compute[0],
        statistics.median(compute[skip:]),
        statistics.median(waiting[skip:]),
        sparse,
        strangers,
        autocasts,
        norms,
        looked,
    )


def ran_out(error: BaseException) -> bool:
    """Whether an allocation of torch's failed: on a GPU with a class of its own, on the CPU with a text."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _optimizers(workload: Workload, model: nn.Module, sparse: bool) -> Iterator[torch.optim.Optimizer]:
    """What steps are timed with: AdamW, and where its state does not fit SGD, so that frugal optimizers have a chance."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not sparse:
        yield torch.optim.AdamW(parameters, lr=0.0)
        model.zero_grad(set_to_none=True)
        gc.collect()
        if workload.device.type == "cuda":
            torch.cuda.empty_cache()
        workload.note(
            "A step with AdamW does not fit into memory: steps were timed with SGD, which keeps no state."
        )
    yield torch.optim.SGD(parameters, lr=0.0)


def _step(
    workload: Workload, model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterator[Any]
) -> tuple[float, float]:
    """One optimizer step as training takes it: (seconds waiting for data, seconds of the rest)."""
    begin = time.perf_counter()
    taken = [next(batches) for _ in range(workload.settings.accumulate // workload.group.size)]
    ready = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    for index, batch in enumerate(taken, 1):
        with workload.group.holding(model, last=index == len(taken)):
            _loss(workload, model, batch).backward()  # type: ignore[no-untyped-call]
    if workload.settings.clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), workload.settings.clip)
    optimizer.step()
    synchronize(workload.device)
    return ready - begin, time.perf_counter() - ready


def _norm(parameters: list[nn.Parameter]) -> float:
    """Norm of the gradient that the last step left, outside of what is timed."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def _loss(workload: Workload, model: nn.Module, batch: Any) -> Tensor:
    with workload.autocast():
        return workload.loss(model, batch)


def synchronize(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Adds the time that is spent inside to `seconds[name]`, less that of torch.compile, which is a part of its own."""
    begin, before = time.perf_counter(), compiled_seconds()
    try:
        yield
    finally:
        took, after = time.perf_counter() - begin, compiled_seconds()
        if before is not None and after is not None and after > before:
            compiling = min(after - before, took)
            seconds["compile"] = seconds.get("compile", 0.0) + compiling
            took -= compiling
        seconds[name] = seconds.get(name, 0.0) + took
