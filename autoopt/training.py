"""THE training loop: a generator of step reports. Stopping, timing's use and progress stay outside it.

One step, in this order: the learning rate of this step is set, gradients are cleared, `accumulate` batches go
forward and backward (each loss divided by `accumulate`), gradients are unscaled and clipped, the optimizer
steps, the user's `after_step` runs. The generated `train.py` does the same, in the same order. A second-order
optimizer gets the loss as a closure instead, and clips and unscales by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from autoopt.optim._curvature import CurvatureOptimizer
from autoopt.timing import Stopwatch

if TYPE_CHECKING:
    from autoopt.records import Settings
    from autoopt.workload import Workload

Around = Callable[[int], AbstractContextManager[Any]]
"""Gives what to enter around forward and backward of a step (counted from 0)."""


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did: `step` counts from 1, times are in seconds."""

    step: int
    loss: float
    seconds: float
    data_seconds: float


def set_rate(optimizer: torch.optim.Optimizer, multiplier: float) -> None:
    """Sets each group's learning rate to its initial one times `multiplier`, remembering the initial one."""
    for group in optimizer.param_groups:
        base = group.setdefault("initial_lr", group["lr"])
        group["lr"] = base * multiplier


def set_mode(optimizer: torch.optim.Optimizer, training: bool) -> None:
    """Puts an optimizer that keeps two sets of weights (schedule-free) into train or eval mode."""
    change = getattr(optimizer, "train" if training else "eval", None)
    if callable(change):
        change()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The autocast context of a precision; nothing for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def train(
    model: nn.Module,
    workload: Workload,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Any],
    *,
    steps: int,
    multiplier: Callable[[int], float],
    settings: Settings | None = None,
    around: Around | None = None,
    stopwatch: Stopwatch | None = None,
) -> Generator[StepReport, None, None]:
    """Trains `model` for `steps` optimizer steps, yielding after each.

    Args:
        model: in train mode, on the workload's device.
        workload: gives loss, settings and `after_step`.
        optimizer: over the model's parameters; its groups' "lr" is the base rate.
        batches: endless; `settings.accumulate` are taken per step.
        steps: number of optimizer steps.
        multiplier: step (from 0) -> multiple of the base rate.
        settings: accumulation, clipping and precision; the workload's unless given.
        around: what to enter around forward and backward of a step, e.g. a memory measurement.
        stopwatch: told where each part of a step ends; nothing is timed by parts without one.

    Yields:
        A `StepReport` per step. A loss that is not finite is reported, not raised; the step is still taken, so
        a caller that wants to stop does so.
    """
    settings, device = settings or workload.settings, workload.device
    accumulate = settings.accumulate // workload.group.size
    parameters = [p for p in model.parameters() if p.requires_grad]
    scaler = torch.amp.GradScaler(device.type) if settings.precision == "fp16" else None
    if isinstance(optimizer, CurvatureOptimizer):
        second_order(optimizer, model, settings.clip, scaler)
    set_mode(optimizer, training=True)
    mark = stopwatch.mark if stopwatch else _no_mark

    def forward(batch: Any) -> Tensor:
        with autocast(device, settings.precision):
            return workload.loss(model, batch) / accumulate

    for step in range(steps):
        if stopwatch:
            stopwatch.begin(step)
        begin = time.perf_counter()
        taken = [next(batches) for _ in range(accumulate)]
        ready = time.perf_counter()
        mark("data")
        set_rate(optimizer, multiplier(step))
        optimizer.zero_grad(set_to_none=True)
        mark("optimizer")
        with around(step) if around else nullcontext():
            if isinstance(optimizer, CurvatureOptimizer):
                total = float(optimizer.step(partial(_summed, forward, taken)))
                if scaler:
                    scaler.update()
                mark("inside")
            else:
                holding = partial(workload.group.holding, model)
                total = workload.group.mean(_backward(forward, taken, scaler, mark, holding))
        if not isinstance(optimizer, CurvatureOptimizer):
            _step(optimizer, parameters, settings.clip, scaler)
            mark("optimizer")
        workload.after_step(model)
        mark("other")
        end = time.perf_counter()
        yield StepReport(step + 1, total, end - ready, ready - begin)


def _no_mark(part: str) -> None:
    """Nobody has a stopwatch."""


def second_order(
    optimizer: CurvatureOptimizer, model: nn.Module, clip: float | None, scaler: torch.amp.GradScaler | None
) -> None:
    """Hands a second-order optimizer what it does by itself: clipping, unscaling, and keeping buffers still."""
    optimizer.module, optimizer.scaler = model, scaler
    for group in optimizer.param_groups:
        group["max_grad_norm"] = clip or 0.0


def _summed(forward: Callable[[Any], Tensor], batches: Sequence[Any]) -> Tensor:
    """The loss of one step as one graph: a second-order optimizer differentiates it twice."""
    losses = [forward(batch) for batch in batches]
    return torch.stack(losses).sum() if len(losses) > 1 else losses[0]


def _backward(
    forward: Callable[[Any], Tensor],
    batches: Sequence[Any],
    scaler: torch.amp.GradScaler | None,
    mark: Callable[[str], None],
    holding: Callable[..., AbstractContextManager[Any]],
) -> float:
    """Forward and backward of each batch of one step; the step's loss."""
    total = 0.0
    for index, batch in enumerate(batches, 1):
        with holding(last=index == len(batches)):
            loss = forward(batch)
            mark("forward")
            torch.autograd.backward(scaler.scale(loss) if scaler else loss)
        total += float(loss.detach())
        mark("backward")
    return total


def _step(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    clip: float | None,
    scaler: torch.amp.GradScaler | None,
) -> None:
    """Unscales, clips and steps."""
    if scaler:
        scaler.unscale_(optimizer)
    if clip is not None:
        nn.utils.clip_grad_norm_(parameters, clip)
    if scaler:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()
