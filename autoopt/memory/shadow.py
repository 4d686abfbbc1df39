"""The user's model and batch as shadows: all shapes, no weights."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from autoopt.memory.trace import Trace
from autoopt.workload.data import convert

_REAL = 64 << 20
"""Bytes up to which whole numbers of a batch (indices, lengths, masks) stay real: code may read them."""
_REAL_FLOAT = 1 << 20


def built(trace: Trace, build: Callable[[], nn.Module]) -> nn.Module:
    """The model that `build` gives, without memory for its weights.

    Raises:
        ValueRead: building it reads weights.
    """
    with trace, _convertible(), warnings.catch_warnings():
        # torch looks at the pointer of a parameter that it copies, and warns; it is 0, as of any that has no memory.
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        model = build()
    return shadowed(trace, model)


@contextlib.contextmanager
def _convertible() -> Iterator[None]:
    """Lets `model.to(dtype)` exchange fake parameters.

    torch refuses because weak references to the old tensor would then mean the new one. The only ones here are the
    fake mode's own, which does not look at them again.
    """
    names = vars(torch.utils)
    before = names["weakref"]
    names["weakref"] = SimpleNamespace(getweakrefs=lambda _: [])
    try:
        yield
    finally:
        names["weakref"] = before


def shadowed(trace: Trace, model: nn.Module) -> nn.Module:
    """The same module with fake parameters and buffers in the place of real ones, ties kept."""
    known: dict[int, Any] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in list(held.items()):
                if tensor is not None:
                    held[name] = known.setdefault(id(tensor), _shadow(trace, tensor))
    return model


def _shadow(trace: Trace, tensor: Tensor) -> Tensor:
    fake = trace.counted(tensor.detach())
    if isinstance(tensor, nn.Parameter):
        fake = nn.Parameter(fake, requires_grad=tensor.requires_grad)
    trace.stands_for(fake, tensor)
    return fake


def batch(trace: Trace, value: Any, samples: int | None = None, wanted: int | None = None) -> Any:
    """A batch for the trace, with `wanted` samples instead of its `samples` where both are given.

    Numbers that code may read stay real; the rest is fake.
    """

    def leaf(tensor: Any) -> Any:
        if not isinstance(tensor, Tensor):
            return tensor
        if samples and wanted and wanted != samples and tensor.ndim and tensor.shape[0] == samples:
            bytes_wanted = tensor.element_size() * tensor.numel() // samples * wanted
            if not _stays(tensor, bytes_wanted):
                return trace.counted_like(tensor, (wanted, *tensor.shape[1:]))
            tensor = tensor[torch.arange(wanted) % samples]
        if _stays(tensor, tensor.nbytes):
            trace.ledger.see(tensor)
            return tensor
        return trace.counted(tensor)

    return convert(value, leaf)


def resizable(value: Any, samples: int | None) -> bool:
    """Whether a batch has a tensor whose first dimension counts samples."""
    found = False

    def leaf(tensor: Any) -> Any:
        nonlocal found
        found = found or (isinstance(tensor, Tensor) and tensor.ndim > 0 and tensor.shape[0] == samples)
        return tensor

    convert(value, leaf)
    return bool(samples) and found


def _stays(tensor: Tensor, size: int) -> bool:
    whole = not (tensor.is_floating_point() or tensor.is_complex())
    return size <= (_REAL if whole else _REAL_FLOAT)
