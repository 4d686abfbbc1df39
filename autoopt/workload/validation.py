"""Validation batches, read once and kept in memory: every trial is scored on the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from autoopt.workload.calls import Calls
from autoopt.workload.data import clone, move, nbytes
from autoopt.workload.source import Source

CACHE_BYTES = 256 << 20
_UNKNOWN_LENGTH = 2_000
"""Batches read of a loader that does not say how many it has (it may never end)."""
_CALLS = 200
"""Batches of a function that gives one at each call: it surely never ends."""


class Held:
    """Validation batches on the host.

    `note` says so when the loader has more of them than are kept.
    """

    def __init__(self, source: Source, cache_bytes: int = CACHE_BYTES) -> None:
        self.note = ""
        self.batches = self._read(source, cache_bytes)
        if not self.batches:
            raise source.empty()

    def __len__(self) -> int:
        return len(self.batches)

    def chosen(self, count: int | None) -> list[int]:
        """Indices of `count` evenly spaced batches, the same at every call; all for None."""
        total = len(self.batches)
        if count is None or count >= total:
            return list(range(total))
        return evenly(total, max(1, count))

    def _read(self, source: Source, cache_bytes: int) -> list[Any]:
        total = source.length
        kept: list[Any] = []
        if total is None:
            size, most = 0, _CALLS if isinstance(source.loader, Calls) else _UNKNOWN_LENGTH
            for batch in source.epoch(0, 0):
                kept.append(clone(batch))
                size += nbytes(batch)
                if size >= cache_bytes or len(kept) >= most:
                    self.note = (
                        f"only the first {len(kept)} validation batches are used: the loader has no length."
                    )
                    break
            return kept
        wanted: set[int] | None = None
        loader = source.loader
        for index, batch in enumerate(source.epoch(0, 0)):
            if index == 0:
                fit = max(1, cache_bytes // max(1, nbytes(batch)))
                if fit < total:
                    self.note = (
                        f"{fit} of {total} validation batches are used, evenly spaced: "
                        f"all would need more than {cache_bytes >> 20} MB."
                    )
                    wanted = set(evenly(total, fit))
                    if _by_index(loader):
                        return self._read_some(source, sorted(wanted))
            if wanted is None or index in wanted:
                kept.append(clone(batch))
        return kept

    @staticmethod
    def _read_some(source: Source, wanted: list[int]) -> list[Any]:
        """Reads those batches only, from a loader that goes through its data set in order."""
        loader = source.loader
        lists = list(loader.batch_sampler)
        some = DataLoader(
            loader.dataset,
            batch_sampler=[lists[i] for i in wanted],
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context if loader.num_workers else None,
        )
        source.loader = some
        try:
            return [clone(batch) for batch in source.epoch(0, 0)]
        finally:
            source.loader = loader


class Batches:
    """The chosen validation batches on the device: what the user's `evaluate` iterates, as often as it likes."""

    def __init__(self, held: Held, count: int | None, device: torch.device) -> None:
        self._held, self._indices, self._device = held, held.chosen(count), device
        self.shared: Callable[..., list[float]] | None = None
        """Sums over the processes that have the other batches; None: all are here."""

    def part(self, rank: int, size: int, sums: Callable[..., list[float]]) -> Batches:
        """Every `size`-th of them from the `rank`-th on; `sums` adds up what the processes found."""
        self._indices, self.shared = self._indices[rank::size], sums
        return self

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Any:
        batch = self._held.batches[self._indices[index]]
        # A copy on the host: user code may change a batch in place, and the next trial must see it unchanged.
        return clone(batch) if self._device.type == "cpu" else move(batch, self._device)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))


def evenly(total: int, count: int) -> list[int]:
    """`count` evenly spaced indices of range(total).

    >>> evenly(10, 3)
    [1, 5, 8]
    """
    return [int((2 * i + 1) * total / (2 * count)) for i in range(count)]


def _by_index(loader: Any) -> bool:
    if type(loader) is not DataLoader or type(loader.batch_sampler) is not BatchSampler:
        return False
    sampler = loader.batch_sampler.sampler
    return type(sampler) in (SequentialSampler, list)
