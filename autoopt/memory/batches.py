"""The batch that needs the most memory among the first ones of a loader: padded batches differ in length."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from autoopt.workload import Workload
from autoopt.workload.data import clone, describe, nbytes, samples

_MOST = 64
_SECONDS = 3.0


@dataclass(frozen=True)
class Longest:
    """A batch on the host, its number of samples, and where it was found, in words."""

    value: Any
    samples: int | None
    words: str


def longest(workload: Workload, seed: int = 0) -> Longest:
    """The largest of the first 64 training batches, or of as many as three seconds give."""
    begin = time.perf_counter()
    kept: Any = None
    sizes: list[int] = []
    place = 0
    stream = workload.batches(seed)
    try:
        for index, batch in enumerate(stream):
            size = nbytes(batch)
            if kept is None or size > sizes[place]:
                kept, place = clone(batch), index
            sizes.append(size)
            once = workload.train_source.length is not None and index + 1 >= workload.train_source.length
            if once or index + 1 >= _MOST or time.perf_counter() - begin > _SECONDS:
                break
    finally:
        stream.close()  # type: ignore[attr-defined]
        workload.train_source.rest()
    return Longest(kept, samples(kept), _words(describe(kept), place, sizes))


def _words(batch: str, place: int, sizes: list[int]) -> str:
    if min(sizes) == max(sizes):
        return f"{batch}; the first {len(sizes)} batches are of one size"
    return (
        f"{batch}: number {place + 1}, the largest of the first {len(sizes)}, whose sizes vary "
        f"{max(sizes) / max(1, min(sizes)):.1f} times"
    )
