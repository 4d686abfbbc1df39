"""Whether a batch is made of tokens, and how many: told by what goes into an embedding, not by names.

A whole-number tensor of shape (batch, length) may as well be labels or categories of a table, so it counts only when the
model looks up something for each of its elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from autoopt.workload.data import leaves, samples

_WHOLE = (torch.int64, torch.int32)
_SHORTEST = 8
"""Elements of a sample from which they are taken as a text: a table's columns of categories are mostly fewer."""

Looked = list[tuple[str, tuple[int, ...]]]
"""(name of an embedding, shape of what it was asked for)."""


@contextmanager
def looking(model: nn.Module) -> Iterator[Looked]:
    """Lists what goes into the model's embeddings inside; nothing of a compiled model, which hooks would compile anew."""
    found: Looked = []
    handles = []
    if not any(_compiled(module) for module in model.modules()):
        for name, module in model.named_modules():
            if isinstance(module, nn.Embedding):
                handles.append(module.register_forward_pre_hook(_note(name, found)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _note(name: str, found: Looked) -> Any:
    def hook(_module: nn.Module, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], Tensor) and given[0].dtype in _WHOLE:
            found.append((name, tuple(given[0].shape)))

    return hook


def _compiled(module: nn.Module) -> bool:
    return type(module).__name__ == "OptimizedModule" or bool(getattr(module, "_compiled_call_impl", None))


def count(batch: Any, looked: Looked) -> tuple[int | None, str]:
    """Tokens of a batch and what was counted; (None, "") where it is not made of tokens.

    Args:
        batch: the first one.
        looked: from `looking`, while the model saw this batch.

    >>> batch = torch.zeros(16, 65, dtype=torch.int64)
    >>> count(batch, [("wte", (16, 64))])
    (1024, 'int64[16, 64] into wte')
    >>> count((batch, batch), [])
    (None, '')
    """
    number = samples(batch)
    rows = [v for v in leaves(batch) if isinstance(v, Tensor) and v.dtype in _WHOLE and v.ndim == 2]
    for name, shape in looked:
        if len(shape) != 2 or shape[0] != number or shape[1] < _SHORTEST:
            continue
        for row in rows:
            # One element more than goes in: the last one is only a target.
            if row.shape[0] == shape[0] and row.shape[1] - shape[1] in (0, 1):
                kind = str(row.dtype).removeprefix("torch.")
                return shape[0] * shape[1], f"{kind}{list(shape)} into {name or 'the embedding'}"
    return None, ""
