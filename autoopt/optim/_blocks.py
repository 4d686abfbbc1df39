"""Cuts tensors into pieces that stay in the cache, so that an update of many operations reads memory once.

An optimizer's update is element-wise: it may be applied to any part of a parameter together with the same
part of its gradient and state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


class Row(NamedTuple):
    """One parameter's tensors, or the same piece of each, and a scalar of its own that a kernel may use."""

    tensors: tuple[Tensor, ...]
    scale: float = 1.0


# Elements of one tensor in a batch. Measured: 512 Ki to 1 Mi float32 are best on a CPU with 32 MiB of cache. Fewer,
# and the threads' meeting after each operation takes longer than the operation; more, and the tensors of a step
# leave the cache. A GPU wants few launches.
CPU_BLOCK = 1 << 19
GPU_BLOCK = 1 << 24
_RUN = 1 << 15

HALVES = (torch.bfloat16, torch.float16)


_asked: ContextVar[int | None] = ContextVar("elements per batch", default=None)


def block_size(device: torch.device) -> int:
    """Elements per batch on a device."""
    return _asked.get() or (CPU_BLOCK if device.type == "cpu" else GPU_BLOCK)


@contextmanager
def blocks_of(size: int) -> Iterator[None]:
    """Inside, batches have `size` elements whatever the device: for a prediction of memory on another one."""
    token = _asked.set(size)
    try:
        yield
    finally:
        _asked.reset(token)


def local(tensor: Tensor) -> Tensor:
    """The part of a (possibly sharded) tensor that lives on this rank, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def real(tensor: Tensor) -> Tensor:
    """Local and real: complex tensors as real ones with a last dimension of 2, sharing memory."""
    tensor = local(tensor)
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def reals(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """`real` of each, for a parameter and what is shaped as it; quick where there is nothing to do."""
    first = tensors[0]
    if isinstance(first, DTensor) or first.is_complex():
        return tuple(real(t) for t in tensors)
    return tensors


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The arithmetic's precision: float32 for the half precisions, else the dtype's own (real) one."""
    return torch.float32 if dtype in HALVES else dtype.to_real()


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements lie in memory without gaps or overlaps, in whatever order."""
    if tensor.numel() == 0:
        return True
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def same_order(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape lie in memory in the same order."""
    if a.stride() == b.stride():
        return True
    # The stride of a dimension of size 1 has no meaning.
    return all(size == 1 or x == y for size, x, y in zip(a.shape, a.stride(), b.stride(), strict=True))


def norm(tensor: Tensor) -> Tensor:
    """Euclidean norm, 0-d, in at least float32 and to its rounding.

    torch's own keeps one running sum per vector lane on a CPU: 6e-5 off at 3 M float32 elements, 2e-3 at 30 M.
    Norms of short runs, and the norm of those, cost half as much again and no copy.
    """
    dtype = compute_dtype(tensor.dtype)
    size = tensor.numel()
    if tensor.device.type != "cpu" or size <= _RUN or not is_dense(tensor):
        whole: Tensor = torch.linalg.vector_norm(tensor, dtype=dtype)
        return whole
    flat = tensor.as_strided((size,), (1,))
    even = size // _RUN * _RUN
    runs = torch.linalg.vector_norm(flat[:even].view(-1, _RUN), dim=1, dtype=dtype)
    rest = torch.linalg.vector_norm(flat[even:], dtype=dtype)
    joined: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(runs), rest]))
    return joined


def _cut(row: Row, block: int) -> Iterator[Row]:
    first = row.tensors[0]
    size = first.numel()
    if size <= block:
        yield row
        return
    if is_dense(first) and all(same_order(first, t) for t in row.tensors):
        # One physical order for all: cut along memory, whatever the layout (channels last included).
        tensors, dim, length = [t.as_strided((size,), (1,)) for t in row.tensors], 0, block
    else:
        # Mixed layouts: cut along the longest dimension, which needs no copy either.
        dim = max(range(first.dim()), key=first.size)
        tensors, length = list(row.tensors), max(1, block * first.size(dim) // size)
    for pieces in zip(*(torch.split(t, length, dim) for t in tensors), strict=True):
        yield Row(pieces, row.scale)


def batches(rows: Iterable[Row], block: int) -> Iterator[list[Row]]:
    """Rows cut and gathered so that each batch holds about `block` elements of each tensor.

    Args:
        rows: real, local tensors of one shape within a row.
        block: elements; larger tensors are cut, smaller ones share a batch.
    """
    batch: list[Row] = []
    room = block
    for row in rows:
        for piece in _cut(row, block):
            size = piece.tensors[0].numel()
            if size == 0:  # an empty shard
                continue
            if batch and size > room:
                yield batch
                batch, room = [], block
            batch.append(piece)
            room -= size
    if batch:
        yield batch


def update(
    rows: Sequence[Row],
    kernel: Callable[[list[Row]], None],
    *,
    written: Sequence[int],
    together: bool = True,
) -> None:
    """Runs an element-wise `kernel` over all rows, in cache-sized batches, in at least float32.

    Args:
        rows: real, local tensors, the parameter first; all rows on one device and with the same dtypes.
        kernel: updates a list of rows in place.
        written: positions of the tensors that the kernel changes; results are rounded back to their dtype.
        together: False gives the kernel one piece of one parameter at a time.
    """
    if not rows:
        return
    dtype = compute_dtype(rows[0].tensors[0].dtype)
    cast = any(t.dtype != dtype for t in rows[0].tensors)
    for batch in batches(rows, block_size(rows[0].tensors[0].device)):
        for part in [batch] if together else [[row] for row in batch]:
            if not cast:
                kernel(part)
                continue
            wide = [Row(tuple(t.to(dtype) for t in row.tensors), row.scale) for row in part]
            kernel(wide)
            for row, result in zip(part, wide, strict=True):
                for i in written:
                    if row.tensors[i].dtype != dtype:
                        row.tensors[i].copy_(result.tensors[i])
