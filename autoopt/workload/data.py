"""A batch of any shape: moving it, counting, describing and digesting it."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_FULL_DIGEST_BYTES = 4 << 20


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def convert(batch: Any, leaf: Callable[[Any], Any]) -> Any:
    """A batch of the same shape with `leaf` applied to tensors and to objects that have `.to`.

    Containers are always new, so that user code that pops a key does not empty the original.
    """
    if isinstance(batch, Tensor):
        return leaf(batch)
    if isinstance(batch, (dict, UserDict)) or (isinstance(batch, Mapping) and not hasattr(batch, "to")):
        items = {key: convert(value, leaf) for key, value in batch.items()}
        if type(batch) is dict or not isinstance(batch, (dict, UserDict)):
            return items
        same = copy.copy(batch)  # keeps the class and its extras (a default factory, a tokenizer's encodings)
        for key, value in items.items():
            same[key] = value
        return same
    if callable(getattr(batch, "to", None)) and not isinstance(batch, type):
        return leaf(batch)
    if isinstance(batch, tuple):
        values = [convert(value, leaf) for value in batch]
        return type(batch)(*values) if hasattr(batch, "_fields") else tuple(values)
    if isinstance(batch, list):
        return [convert(value, leaf) for value in batch]
    if _is_dataclass(batch):
        same = copy.copy(batch)
        for field in dataclasses.fields(batch):
            object.__setattr__(same, field.name, convert(getattr(batch, field.name), leaf))  # frozen ones too
        return same
    return batch


def move(batch: Any, device: torch.device) -> Any:
    """The batch on `device`; containers are new, tensors already there are the same."""
    non_blocking = device.type != "cpu"
    return convert(batch, lambda value: value.to(device, non_blocking=non_blocking))


def clone(batch: Any) -> Any:
    """A copy whose tensors can be changed in place without touching the original."""
    return convert(batch, lambda value: value.clone() if isinstance(value, Tensor) else value)


def leaves(batch: Any) -> Iterator[Any]:
    """Everything in the batch that is no container, in order."""
    if isinstance(batch, (str, bytes, Tensor)):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from leaves(value)
    elif isinstance(batch, (list, tuple)):
        for value in batch:
            yield from leaves(value)
    elif _is_dataclass(batch):
        for field in dataclasses.fields(batch):
            yield from leaves(getattr(batch, field.name))
    elif callable(getattr(batch, "to", None)) and getattr(batch, "__dict__", None):
        for value in vars(batch).values():
            yield from leaves(value)
    else:
        yield batch


def samples(batch: Any) -> int | None:
    """Number of samples: the first tensor's first dimension; None without a tensor.

    >>> samples({"x": torch.zeros(8, 3), "y": torch.zeros(8)})
    8
    """
    for value in leaves(batch):
        if isinstance(value, Tensor):
            return int(value.shape[0]) if value.ndim else 1
    return None


def nbytes(batch: Any) -> int:
    """Bytes of the batch's tensors and arrays."""
    return sum(int(v.nbytes) for v in leaves(batch) if isinstance(v, (Tensor, np.ndarray)))


def describe(batch: Any) -> str:
    """The batch in words.

    >>> describe((torch.zeros(64, 1, 8, 8), torch.zeros(64, dtype=torch.int64)))
    'tuple(float32[64, 1, 8, 8], int64[64])'
    """
    if isinstance(batch, (Tensor, np.ndarray)):
        return f"{str(batch.dtype).removeprefix('torch.')}{list(batch.shape)}"
    name = type(batch).__name__
    if isinstance(batch, Mapping):
        return f"{name}({', '.join(f'{k}: {describe(v)}' for k, v in batch.items())})"
    if isinstance(batch, (list, tuple)):
        inner = [describe(v) for v in batch[:8]] + (["..."] if len(batch) > 8 else [])
        return f"{name}({', '.join(inner)})"
    if _is_dataclass(batch):
        fields = [f"{f.name}: {describe(getattr(batch, f.name))}" for f in dataclasses.fields(batch)]
        return f"{name}({', '.join(fields)})"
    return name


def _bytes(value: Tensor) -> bytes:
    if value.layout is not torch.strided or value.is_quantized:
        return repr(value).encode()
    flat = value.detach().cpu().reshape(-1)
    if flat.nbytes > _FULL_DIGEST_BYTES:  # hashing a large batch whole would cost as much as a step
        flat = flat[:: -(-flat.nbytes // _FULL_DIGEST_BYTES)]
    return flat.contiguous().view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def digest(batch: Any) -> str:
    """32 hex digits that differ when the batch does (tensors over 4 MB: an even sample of them)."""
    state = hashlib.blake2b(digest_size=16)
    for value in leaves(batch):
        state.update(describe(value).encode())
        if isinstance(value, Tensor):
            state.update(_bytes(value))
        elif isinstance(value, np.ndarray):
            state.update(value.tobytes())
        elif isinstance(value, (str, bytes, int, float, bool, complex)) or value is None:
            state.update(repr(value).encode())
    return state.hexdigest()
