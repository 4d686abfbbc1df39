"""The compiled kernels as functions on tensors."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from autoopt.optim._blocks import Row, is_dense, same_order
from autoopt.optim.compiled.compiler import Built, build

SOURCE = Path(__file__).with_name("kernels.c")
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
        *((name, ctypes.c_double) for name in ("inverse_root", "before", "after", "seen")),
    ]


class SaiArguments(ctypes.Structure):
    """`sai_args` of kernels.c."""

    _fields_ = [
        *((name, ctypes.c_double) for name in ("momentum", "keep", "sign")),
        ("first", ctypes.c_int64),
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
    return build(SOURCE)


def require(rows: Sequence[Row]) -> None:
    """Makes sure, before anything moves, that the kernels take these rows: they trust sizes and types blindly.

    Raises:
        CompilerError: no compiler, or it refused.
        RuntimeError: a device, a dtype or a layout that they do not take, with the way out.
    """
    built()
    p = rows[0].tensors[0]  # of one kind: the same device and dtype in all rows
    if p.device.type != "cpu":
        raise RuntimeError(
            f"fused=True is for parameters on the CPU, not {p.device}. Leave fused=None there."
        )
    if p.dtype not in _TYPES:
        raise RuntimeError(f"fused=True takes {', '.join(_TYPES.values())}, not {p.dtype}. Leave fused=None.")
    kind = rows[0].tensors[2].dtype if len(rows[0].tensors) > 2 else p.dtype
    for row in rows:
        p, _, *state = row.tensors
        for t in state:
            if t.dtype != kind or (p.dtype, kind) not in _PAIRS:
                raise RuntimeError(
                    f"fused=True does not take state in {t.dtype} for parameters in {p.dtype}. "
                    "Leave state_dtype=None."
                )
        size = p.numel()
        if any([t.numel() != size for t in row.tensors]):
            raise RuntimeError(
                f"the shapes of a parameter, its gradient and its state differ: {[tuple(t.shape) for t in row.tensors]}"
            )
        if not all([t.is_contiguous() for t in row.tensors]) and not (
            is_dense(p) and all(same_order(p, t) for t in state)
        ):
            raise RuntimeError(
                "fused=True needs a parameter without gaps in memory, and its state in the same order: shape "
                f"{tuple(p.shape)}, strides {p.stride()}. Leave fused=None."
            )


def run(kernel: str, rows: Sequence[Row], arguments: ctypes.Structure) -> None:
    """One update of all rows, in place.

    Args:
        kernel: "adan" or "sai".
        rows: real, local, of one kind (device and dtypes), the parameter first; `require` accepts them.
        arguments: the kernel's.
    """
    tensors = rows[0].tensors
    function = _function(kernel, tensors[0].dtype, tensors[2 if len(tensors) > 2 else 0].dtype)
    empty = [0] * (_SLOTS - len(tensors))
    table: list[int] = []
    copies = []  # of gradients; they live until the kernel has run
    for row in rows:
        p, g, *state = row.tensors
        if not same_order(p, g) or g.dtype != p.dtype:
            g = torch.empty_like(p).copy_(g)
            copies.append(g)
        table += (p.data_ptr(), g.data_ptr(), *(t.data_ptr() for t in state), *empty, p.numel())
    team = _team()
    team.wanted = torch.get_num_threads()
    function(
        ctypes.byref(team),
        (ctypes.c_int64 * len(table))(*table),
        (ctypes.c_double * len(rows))(*(row.scale for row in rows)),
        ctypes.c_int64(len(rows)),
        ctypes.byref(arguments),
    )


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
