"""The optimizer's own step on a trace: the state that it makes, and what passes through."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from autoopt.memory.trace import Trace
from autoopt.optim import _blocks, build
from autoopt.optim._curvature import CurvatureOptimizer

_PIECES = 512
"""Pieces that our optimizers cut a large model into at most: a trace of more takes long and shows the same."""


@dataclass(frozen=True)
class Stepped:
    """Bytes: `state` as it is allocated, `held` the same as the ledger rounds it, `temporary` what comes and goes."""

    state: int
    held: int
    temporary: int


def step(trace: Trace, model: nn.Module, optimizer: Optimizer, kind: str) -> Stepped:
    """One first step of a first-order optimizer over the gradients that are there."""
    begin = trace.ledger.mark()
    before = trace.ledger.alive()
    with _as_on(kind, model, optimizer), trace, trace.assuming():
        optimizer.step()
    held = _numbers(trace, optimizer)
    return _stepped(trace, optimizer, held, max(trace.ledger.course(begin, without=before | held)))


def whole_step(
    trace: Trace, model: nn.Module, optimizer: CurvatureOptimizer, kind: str, loss: Callable[[], Tensor]
) -> tuple[Stepped, list[int]]:
    """A step of an optimizer that differentiates by itself.

    Returns:
        Its state, and at each moment what is held beyond it and what was there before, gradients included.
    """
    optimizer.module = model
    begin = trace.ledger.mark()
    before = trace.ledger.alive()
    with _as_on(kind, model, optimizer), trace, trace.assuming():
        optimizer.step(loss)
    held = _numbers(trace, optimizer)
    return _stepped(trace, optimizer, held, 0), trace.ledger.course(begin, without=before | held)


def _numbers(trace: Trace, optimizer: Optimizer) -> frozenset[int]:
    return frozenset(trace.ledger.see(tensor) for tensor in build.state_storages(optimizer))


def _stepped(trace: Trace, optimizer: Optimizer, held: frozenset[int], temporary: int) -> Stepped:
    return Stepped(build.state_bytes(optimizer), sum(trace.ledger.size(n) for n in held), temporary)


@contextlib.contextmanager
def _as_on(kind: str, model: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """Takes the way that an optimizer takes by itself on a device of that kind."""
    change = getattr(optimizer, "train", None)
    if callable(change):  # schedule-free ones step in train mode only
        change()
    size = sum(p.numel() for p in model.parameters() if p.requires_grad)
    block = _blocks.GPU_BLOCK if kind == "cuda" else _blocks.CPU_BLOCK
    if kind == "cuda":
        for group in optimizer.param_groups:
            if "foreach" in group and group["foreach"] is None:
                group["foreach"] = True  # what torch, and we, do there unless told otherwise
    with _blocks.blocks_of(max(block, size // _PIECES)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
