"""Forward and backward of one optimizer step on a trace, and what they hold at their fullest moment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from autoopt.memory import shadow
from autoopt.memory.gpu_ops import GpuOps
from autoopt.memory.trace import Trace
from autoopt.optim.build import plain
from autoopt.workload import Workload


@dataclass(frozen=True)
class Pass:
    """Bytes of one step's forward and backward, beyond parameters, buffers and optimizer state."""

    samples: int
    course: list[int]
    """At each moment: batch, activations, gradients so far, what passes through."""
    activations: int
    """The most of that without the gradients."""


@dataclass(frozen=True)
class Setting:
    """How a step is taken."""

    kind: str
    precision: str
    accumulate: int

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Autocast, and a GPU's ways where it is one."""
        with self.autocast(), self.ways():
            yield

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision's; nothing for fp32."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast("cpu", torch.bfloat16 if self.precision == "bf16" else torch.float16)

    def ways(self, *, twice: bool = False) -> contextlib.AbstractContextManager[Any]:
        """How the device does what a CPU does otherwise; `twice` where gradients are differentiated again."""
        if self.kind != "cuda":
            return contextlib.nullcontext()
        return GpuOps(autocast=self.precision != "fp32", twice=twice).in_backward_too()


def take(
    trace: Trace,
    workload: Workload,
    model: nn.Module,
    given: Any,
    setting: Setting,
    samples: int | None,
    wanted: int | None,
) -> Pass:
    """Runs forward and backward of one step; the gradients stay with the parameters.

    Args:
        given: the batch on the host, of `samples` samples.
        wanted: samples to take instead; None: as many as there are.

    Raises:
        Exception: whatever the user's code or torch raises where a trace cannot follow.
    """
    for parameter in model.parameters():
        parameter.grad = None
    begin = trace.ledger.mark()
    before = trace.ledger.alive()
    batch = shadow.batch(trace, given, samples, wanted)
    with trace, setting.entered():
        for _ in range(min(setting.accumulate, 2)):  # a third batch finds what the second found
            loss = workload.loss(model, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            del loss
    gradients = numbers(trace, [p.grad for p in model.parameters() if p.grad is not None])
    course = trace.ledger.course(begin, without=before)
    activations = max(trace.ledger.course(begin, without=before | gradients))
    return Pass(wanted or samples or 1, course, activations)


def numbers(trace: Trace, tensors: list[torch.Tensor]) -> frozenset[int]:
    """The ledger's numbers of the storages under some tensors."""
    return frozenset(trace.ledger.see(inner) for tensor in tensors for inner in plain(tensor))
