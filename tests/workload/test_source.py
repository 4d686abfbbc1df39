from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, RandomSampler, TensorDataset

from autoopt.errors import WorkloadError
from autoopt.workload.boundary import UserCode
from autoopt.workload.data import digest
from autoopt.workload.source import Source

CODE = UserCode(Path.cwd())
DATA = TensorDataset(torch.arange(12.0))


class OwnGenerators:
    """A custom loader that keeps one generator of each kind."""

    def __init__(self) -> None:
        self.a, self.b = random.Random(1), np.random.default_rng(1)
        self.c, self.d = np.random.RandomState(1), torch.Generator().manual_seed(1)

    def __iter__(self):
        for _ in range(3):
            numbers = [
                self.a.random(),
                self.b.random(),
                self.c.rand(),
                torch.rand(1, generator=self.d).item(),
            ]
            yield torch.tensor(numbers)


class Stream(IterableDataset):
    def __iter__(self):
        return (torch.rand(2) for _ in range(8))


def generator():
    for _ in range(3):
        yield torch.tensor([random.random(), np.random.rand(), torch.rand(1).item()])


def distributed() -> DataLoader:
    return DataLoader(DATA, 4, sampler=DistributedSampler(DATA, num_replicas=1, rank=0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: DataLoader(DATA, 4, shuffle=True),
        lambda: DataLoader(DATA, 4, shuffle=True, generator=torch.Generator()),
        lambda: DataLoader(DATA, 4, sampler=RandomSampler(DATA, generator=torch.Generator())),
        distributed,
        lambda: DataLoader(Stream(), 2),
        OwnGenerators,
        generator,
        lambda: generator,
        lambda: DataLoader(DATA, 4, shuffle=True, num_workers=2, multiprocessing_context="fork"),
        lambda: DataLoader(
            Stream(), 2, num_workers=1, persistent_workers=True, multiprocessing_context="fork"
        ),
    ],
)
def test_batches_depend_on_the_seed_and_the_epoch_alone(make):
    source = Source(make, "train_dataloader", CODE)

    def digests(seed: int, count: int = 8) -> list[str]:
        batches = source.endless(seed)
        found = [digest(batch) for batch in islice(batches, count)]
        batches.close()
        return found

    first = digests(0)
    torch.rand(3), random.random(), np.random.rand()
    assert digests(0) == first
    assert len(set(first)) == len(first)  # epochs differ too
    if make is not distributed:
        assert digests(1) != first
    source.rest()


def test_the_order_of_a_list_is_kept():
    source = Source([torch.zeros(1), torch.ones(1)], "train", CODE)
    assert source.length == 2
    assert [int(b) for b in islice(source.endless(0), 5)] == [0, 1, 0, 1, 0]


def test_data_drawn_in_the_two_functions_differs():
    def draw() -> list[torch.Tensor]:
        return [torch.rand(4)]

    train, again, val = (Source(draw, name, CODE) for name in ("train_dataloader", "train_dataloader", "val"))
    assert digest(train.loader) == digest(again.loader) != digest(val.loader)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: None, "returned None"),
        (lambda: 3, "cannot be iterated"),
        (lambda: {"a": DataLoader(DATA), "b": DataLoader(DATA)}, "returned 2 loaders"),
        (lambda: [DataLoader(DATA), DataLoader(DATA)], "returned 2 loaders"),
        (iter([1]), "read only once"),
    ],
)
def test_what_is_no_source_of_batches(given, message):
    with pytest.raises(WorkloadError, match=message) as caught:
        Source(given, "train_dataloader", CODE)
    assert caught.value.hint


def test_empty_loaders_and_those_that_end():
    with pytest.raises(WorkloadError, match=r"gives no batch\."):
        next(Source(lambda: [], "train_dataloader", CODE).endless(0))
    with pytest.raises(WorkloadError, match="gives no batch"):
        next(Source(lambda: DataLoader(DATA, 64, drop_last=True), "train_dataloader", CODE).endless(0))
    single = iter([torch.zeros(1)])
    with pytest.raises(WorkloadError, match="the same iterator at each call"):
        list(islice(Source(lambda: single, "train_dataloader", CODE).endless(0), 3))

    class Once:
        left = 2

        def __iter__(self):
            while self.left:
                self.left -= 1
                yield torch.zeros(1)

    with pytest.raises(WorkloadError, match="the second time it is read"):
        list(islice(Source(Once, "train_dataloader", CODE).endless(0), 3))


def test_length_is_unknown_for_streams():
    assert Source(generator, "train", CODE).length is None
    assert Source(DataLoader(Stream(), 2), "train", CODE).length is None
