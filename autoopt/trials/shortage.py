"""Memory that ran out, as an answer: what was asked for, what was free, and what fits. Imports no torch."""

from __future__ import annotations

import re

from autoopt.records import Shortage

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = r"([\d.]+) (bytes|[KMGT]iB)"
_ASKED = re.compile(rf"[Tt]ried to allocate {_SIZE}")
_TOTAL = re.compile(rf"total capacity of {_SIZE}")
_FREE = re.compile(rf"of which {_SIZE} is free")


def shortage_of(text: str, device: str, free: int | None = None, total: int | None = None) -> Shortage:
    """What an out-of-memory error's text tells.

    Args:
        text: of the error, as torch's allocators write it.
        device: on which it ran out.
        free: bytes, where the text does not tell.
        total: bytes, where the text does not tell.

    >>> found = shortage_of("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes.", "cpu")
    >>> found.asked, found.free
    (4096, None)
    """
    told = _size(_FREE, text)
    capacity = _size(_TOTAL, text)
    return Shortage(
        device=device,
        asked=_size(_ASKED, text),
        free=free if told is None else told,
        total=total if capacity is None else capacity,
    )


def sentence(shortage: Shortage) -> str:
    """The shortage in words, what fits included.

    >>> sentence(Shortage(device="cuda:0", asked=2 << 30, free=1 << 30, total=4 << 30))
    'out of memory on cuda:0: asked for 2.0 GiB with 1.0 GiB of 4.0 GiB free'
    """
    asked = "" if shortage.asked is None else f"asked for {_gib(shortage.asked)}"
    there = "" if shortage.total is None else f" of {_gib(shortage.total)}"
    free = "" if shortage.free is None else f"{_gib(shortage.free)}{there} free"
    figures = " with ".join(part for part in (asked, free) if part)
    fits = _fits(shortage)
    return f"out of memory on {shortage.device}{': ' if figures else ''}{figures}{'; ' if fits else ''}{fits}"


def way_out(shortage: Shortage) -> str:
    """What the user can do about it."""
    if shortage.fits is None:
        return "Use smaller batches, a smaller model, a lower PRECISION (bf16), or a device with more memory."
    if shortage.fits == shortage.batch:
        return (
            "The same step fitted once memory was given back: look for tensors that your code keeps from step to step, "
            "or for other programs on the device."
        )
    return (
        f"Make the batches {shortage.fits} samples in train_dataloader() and pass --accumulate {shortage.accumulate} "
        f"(or set ACCUMULATE = {shortage.accumulate}): {shortage.accumulate} of them make the same step."
    )


def _fits(shortage: Shortage) -> str:
    if shortage.fits is None:
        return "" if shortage.batch is None else "no step fits, not even with a batch of one sample"
    if shortage.fits == shortage.batch:
        return f"the same step with a batch of {shortage.batch} fitted afterwards"
    return (
        f"a step fits with batches of {shortage.fits} instead of {shortage.batch} and {shortage.accumulate} of them "
        "accumulated"
    )


def _size(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    return None if match is None else int(float(match[1]) * _UNITS[match[2]])


def _gib(size: int) -> str:
    """Bytes in the unit that leaves a digit before the point."""
    for name in ("GiB", "MiB", "KiB"):
        if size >= _UNITS[name]:
            return f"{size / _UNITS[name]:.1f} {name}"
    return f"{size} bytes"
