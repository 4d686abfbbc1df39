"""The batches of a `transformers.Trainer`: its own loaders, freed of what fixes their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, Subset

from autoopt.workload.holdout import pick

Counter = Callable[[list[Any]], Any]
"""Batches -> number of items over which their losses are averaged; None where it is not counted."""


@dataclass
class MicroBatch:
    """One of the batches of an optimizer step, and what the loss of the whole step is divided by.

    Args:
        inputs: the collator's batch.
        items: labels that count, in all batches of the step; None where the Trainer counts none.
        of: batches of the step.
    """

    inputs: Any
    items: Any
    of: int


class Steps:
    """A loader whose batches know the step that they are part of, as `Trainer.get_batch_samples` counts it.

    A step's batches are read before the first of them is trained on, as in a Trainer, since its loss is averaged over
    the tokens of all of them.

    Args:
        loader: gives single batches.
        count: how many items are averaged over.
        accumulate: batches of an optimizer step.
    """

    def __init__(self, loader: Any, count: Counter, accumulate: int) -> None:
        self.loader, self._count, self._accumulate = loader, count, accumulate

    def __iter__(self) -> Iterator[MicroBatch]:
        batches = iter(self.loader)
        while step := list(islice(batches, self._accumulate)):
            items = self._count(step)
            for inputs in step:
                yield MicroBatch(inputs, items, len(step))

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name in ("loader", "_iterator"):  # the latter: a loader's own, which `rest` must not find twice
            raise AttributeError(name)
        return getattr(self.loader, name)  # samplers, data set and generator, to be reseeded


def plain(loader: Any) -> Any:
    """The loader inside Accelerate's, with an order that a seed can decide.

    Accelerate's sampler orders an epoch by the number of the epoch alone, so that all seeds would have one order; it is
    replaced by torch's, with a generator of its own. What is no loader of Accelerate's is returned as it is.
    """
    base = getattr(loader, "base_dataloader", None)
    if type(base) is not DataLoader:
        return loader
    batches = base.batch_sampler
    if type(batches) is not BatchSampler or type(batches.sampler).__name__ != "SeedableRandomSampler":
        return base
    sampler: Any = batches.sampler
    order = RandomSampler(
        sampler.data_source,
        replacement=sampler.replacement,
        num_samples=sampler._num_samples,
        generator=torch.Generator(),
    )
    workers = base.num_workers > 0
    return DataLoader(
        base.dataset,
        batch_sampler=BatchSampler(order, batches.batch_size, batches.drop_last),
        num_workers=base.num_workers,
        collate_fn=base.collate_fn,
        pin_memory=base.pin_memory and torch.cuda.is_available(),  # without a GPU torch only warns
        timeout=base.timeout,
        worker_init_fn=base.worker_init_fn,
        multiprocessing_context=base.multiprocessing_context if workers else None,
        prefetch_factor=base.prefetch_factor if workers else None,
        persistent_workers=base.persistent_workers,
        in_order=base.in_order,
    )


def shares(dataset: Any) -> tuple[Any, Any] | None:
    """(training, validation) of a data set that is indexed; None of one that is not."""
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        return None
    try:
        count = len(dataset)
    except TypeError:
        return None
    if count < 2:
        return None
    kept, held = pick(count)
    if hasattr(dataset, "select"):  # a `datasets.Dataset`, whose unused columns the Trainer removes
        return dataset.select(kept), dataset.select(held)
    return Subset(dataset, kept), Subset(dataset, held)


def is_scaled(trainer: Any, items: Any) -> bool:
    """Whether `compute_loss` divides by what the whole step has, and not by what its batch has.

    Args:
        trainer: whose it is.
        items: that were counted in the step; None: they were not.
    """
    said = getattr(trainer, "loss_is_scaled_for_ga", None)
    if said is not None:
        return bool(said)
    counted = trainer.model_accepts_loss_kwargs and items is not None
    return bool(counted or trainer.compute_loss_func is not None)
