"""Holding out validation data by index, before the sampler sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
)

SHARE = 0.1
_MOST = 10_000
"""Samples: with so many the mean loss is known to 1 % of its spread; more would only be missing in training."""
_SEED = 20_241_123


class Mapped(Sampler[int]):
    """The positions that `inner` draws, as indices of the data set that were not held out."""

    def __init__(self, inner: Sampler[int], indices: Sequence[int]) -> None:
        self.inner, self._indices = inner, indices

    def __iter__(self) -> Iterator[int]:
        return (self._indices[position] for position in self.inner)

    def __len__(self) -> int:
        return len(self.inner)  # type: ignore[arg-type]


def pick(count: int) -> tuple[list[int], list[int]]:
    """(kept, held out) of range(count): the same ones for every seed, at least one held out.

    >>> kept, held = pick(50)
    >>> len(kept), len(held)
    (45, 5)
    """
    held = min(max(1, round(SHARE * count)), _MOST)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_SEED)).tolist()
    return sorted(order[held:]), sorted(order[:held])


def hold_out(loader: Any) -> tuple[Any, Any] | None:
    """(training, validation) made of `loader`; None where its samples cannot be told apart by index.

    A DataLoader over a map-style data set with one of torch's plain samplers is built again around the same
    data set; of a list or tuple of batches, whole batches are held out.
    """
    if type(loader) in (list, tuple):
        if len(loader) < 2:
            return None
        kept, held = pick(len(loader))
        return [loader[i] for i in kept], [loader[i] for i in held]
    if type(loader) is not DataLoader or isinstance(loader.dataset, IterableDataset):
        return None
    batch_sampler = loader.batch_sampler
    if batch_sampler is not None and type(batch_sampler) is not BatchSampler:
        return None
    # batch_size=None with a BatchSampler as the sampler: the data set is indexed with whole lists.
    lists = batch_sampler is None and type(loader.sampler) is BatchSampler
    sampler: Any = loader.sampler
    innermost = sampler.sampler if lists else sampler
    population = _population(innermost)
    if population is None or len(population) < 2:
        return None
    kept, held = pick(len(population))
    rebuilt: Any = _rebuilt(innermost, [population[i] for i in kept])
    validation: Any = [population[i] for i in held]
    if lists:
        rebuilt = BatchSampler(rebuilt, sampler.batch_size, sampler.drop_last)
        validation = BatchSampler(validation, sampler.batch_size, False)
    train = _loader(loader, rebuilt, drop_last=loader.drop_last, persistent=loader.persistent_workers)
    if len(train) == 0:
        return None
    return train, _loader(loader, validation, drop_last=False, persistent=False)


def _population(sampler: Any) -> Sequence[int] | None:
    if type(sampler) in (RandomSampler, SequentialSampler):
        return range(len(sampler.data_source))
    if type(sampler) is SubsetRandomSampler:
        return list(sampler.indices)
    if type(sampler) is range:
        return sampler
    return None


def _rebuilt(sampler: Any, indices: list[int]) -> Mapped:
    positions = range(len(indices))
    if isinstance(sampler, RandomSampler):
        inner: Sampler[int] = RandomSampler(
            positions,
            replacement=sampler.replacement,
            num_samples=sampler._num_samples,
            generator=sampler.generator,
        )
    elif isinstance(sampler, SubsetRandomSampler):
        inner = RandomSampler(positions, generator=sampler.generator)
    else:
        inner = SequentialSampler(positions)
    return Mapped(inner, indices)


def _loader(like: DataLoader[Any], sampler: Any, *, drop_last: bool, persistent: bool) -> DataLoader[Any]:
    workers = like.num_workers > 0
    return DataLoader(
        like.dataset,
        batch_size=like.batch_size,
        sampler=sampler,
        num_workers=like.num_workers,
        collate_fn=like.collate_fn,
        pin_memory=like.pin_memory,
        drop_last=drop_last,
        timeout=like.timeout,
        worker_init_fn=like.worker_init_fn,
        multiprocessing_context=like.multiprocessing_context if workers else None,
        generator=like.generator,
        prefetch_factor=like.prefetch_factor if workers else None,
        persistent_workers=persistent and workers,
        in_order=like.in_order,
    )
