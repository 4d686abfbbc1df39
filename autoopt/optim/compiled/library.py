"""The compiled kernels as functions on tensors."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autoopt.optim._blocks import Row, is_dense, same_order
from autoopt.optim.compiled.compiler import Built, build

_SOURCE = Path(__file__).with_name("kernels.c")
_TYPES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}
_PAIRS = {
    (torch.float32, torch.float32),
    (torch.float32, torch.bfloat16),
    (torch.bfloat16, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.float64, torch.float64),
}
_SLOTS = 6


class AdanArguments(ctypes.Structure):
    """`adan_args` of kernels.c."""

    _fields_ = [
        *((name, ctypes.c_double) for name in ("b1", "b2", "b3", "eps", "factor", "rate_m", "rate_v")),
        *((name, ctypes.c_double) for name in ("inverse_root", "before", "after")),
        ("first", ctypes.c_int64),
    ]


class SaiArguments(ctypes.Structure):
    """`sai_args` of kernels.c."""

    _fields_ = [
        *((name, ctypes.c_double) for name in ("momentum", "keep", "sign")),
        ("first", ctypes.c_int64),
    ]


class _Row(ctypes.Structure):
    _fields_ = [
        ("tensors", ctypes.c_void_p * _SLOTS),
        ("size", ctypes.c_int64),
        ("scale", ctypes.c_double),
    ]


class _Team(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("parallel", "thread", "threads")),
        ("wanted", ctypes.c_int64),
    ]


@functools.cache
def built() -> Built:
    """The library, built at the first call on a machine.

    Raises:
        CompilerError: no compiler, or it refused.
    """
    return build(_SOURCE)


def run(kernel: str, rows: Sequence[Row], arguments: ctypes.Structure) -> None:
    """One update of all rows, in place.

    Args:
        kernel: "adan" or "sai".
        rows: what `require` accepts, with the same dtypes in all rows.
        arguments: the kernel's.

    Raises:
        CompilerError: no compiler, or it refused.
    """
    tensors = rows[0].tensors
    function = _function(kernel, tensors[0].dtype, tensors[2 if len(tensors) > 2 else 0].dtype)
    keep, table = [], (_Row * len(rows))()
    for entry, row in zip(table, rows, strict=True):
        aligned = _one_order(row.tensors)
        keep.append(aligned)  # a gradient's copy lives until the kernel has run
        for i, tensor in enumerate(aligned):
            entry.tensors[i] = tensor.data_ptr()
        entry.size, entry.scale = aligned[0].numel(), row.scale
    team = _team()
    team.wanted = torch.get_num_threads()
    function(ctypes.byref(team), table, ctypes.c_int64(len(rows)), ctypes.byref(arguments))


def require(tensors: tuple[Tensor, ...]) -> None:
    """Raises RuntimeError, with the way out, where the kernels do not take a row."""
    why = _obstacle(tensors)
    if why is not None:
        raise RuntimeError(why)


def _obstacle(tensors: tuple[Tensor, ...]) -> str | None:
    p = tensors[0]
    if any(t.device.type != "cpu" for t in tensors):
        return f"fused=True is for parameters on the CPU, this one is on {p.device}; leave fused=None there."
    pair = (p.dtype, tensors[2 if len(tensors) > 2 else 0].dtype)
    if pair not in _PAIRS and pair[0] in _TYPES:
        return (
            f"fused=True does not take state in {pair[1]} for {p.dtype} parameters; leave state_dtype=None."
        )
    if pair not in _PAIRS:
        return (
            f"fused=True takes parameters in {', '.join(_TYPES.values())}, not {p.dtype}; leave fused=None."
        )
    if not is_dense(p) or not all(same_order(p, t) for t in tensors[2:]):
        return "fused=True needs parameter and state in one piece and one order of memory; leave fused=None."
    return None


def _one_order(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    p, g, *state = tensors
    if not same_order(p, g) or g.dtype != p.dtype:
        g = torch.empty_like(p).copy_(g)
    return (p, g, *state)


@functools.cache
def _function(kernel: str, parameter: torch.dtype, state: torch.dtype) -> Any:
    return getattr(built().library, f"{kernel}_{_TYPES[parameter]}_{_TYPES[state]}")


@functools.cache
def _team() -> _Team:
    """Entry points of the OpenMP runtime that torch runs on; empty where it has none: then one thread."""
    runtime = _openmp()
    if runtime is None:
        return _Team()
    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    return _Team(*(ctypes.cast(getattr(runtime, name), ctypes.c_void_p).value for name in names))


def _openmp() -> ctypes.CDLL | None:
    """The runtime in torch's own folder if it is loaded, else the one that the process shares."""
    folder = Path(torch.__file__).parent / "lib"
    loaded_only = getattr(os, "RTLD_NOLOAD", 0)
    own = [
        str(path) for pattern in ("libgomp*.so*", "libiomp5*.so*") for path in sorted(folder.glob(pattern))
    ]
    for name in [*own, None] if loaded_only else []:
        try:
            runtime = ctypes.CDLL(name, mode=loaded_only | os.RTLD_LAZY)
        except OSError:
            continue
        if hasattr(runtime, "GOMP_parallel"):
            return runtime
    return None
