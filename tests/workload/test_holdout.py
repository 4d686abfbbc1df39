from __future__ import annotations

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from autoopt.workload.holdout import hold_out, pick

DATA = TensorDataset(torch.arange(50))


def _values(loader) -> list[int]:
    return [int(v) for batch in loader for v in (batch[0] if isinstance(batch, list) else batch).reshape(-1)]


@pytest.mark.parametrize(
    ("loader", "population"),
    [
        (DataLoader(DATA, 8, shuffle=True), range(50)),
        (DataLoader(DATA, 8), range(50)),
        (DataLoader(DATA, 8, shuffle=True, drop_last=True), range(50)),
        (DataLoader(DATA, batch_size=None, shuffle=True), range(50)),
        (DataLoader(DATA, batch_size=None, sampler=BatchSampler(RandomSampler(DATA), 8, True)), range(50)),
        (DataLoader(DATA, 8, sampler=SubsetRandomSampler(list(range(20, 40)))), range(20, 40)),
        (
            DataLoader(DATA, 8, shuffle=True, collate_fn=lambda items: torch.stack([i[0] for i in items])),
            range(50),
        ),
    ],
)
def test_samples_are_either_trained_on_or_held_out(loader, population):
    torch.manual_seed(0)  # with drop_last an epoch leaves some out: which ones is chance
    train, validation = hold_out(loader)
    held = _values(validation)
    assert len(held) == round(0.1 * len(population))
    trained = set().union(*(_values(train) for _ in range(12)))
    assert trained | set(held) == set(population)
    assert not trained & set(held)
    assert _values(hold_out(loader)[1]) == held  # the same ones each time
    assert train.dataset is loader.dataset
    first = next(iter(loader))
    assert type(next(iter(train))) is type(first)


def test_shuffling_stays_and_order_stays():
    shuffled, _ = hold_out(DataLoader(DATA, 8, shuffle=True))
    assert _values(shuffled) != sorted(_values(shuffled))
    ordered, _ = hold_out(DataLoader(DATA, 8))
    assert _values(ordered) == sorted(_values(ordered))


def test_whole_batches_of_a_list():
    batches = [torch.full((2,), i) for i in range(20)]
    train, validation = hold_out(batches)
    assert (len(train), len(validation)) == (18, 2)
    assert sorted(_values(train) + _values(validation)) == sorted(_values(batches))


class Own(DataLoader):
    def __iter__(self):
        return super().__iter__()


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(9))


@pytest.mark.parametrize(
    "loader",
    [
        Own(DATA, 8),
        DataLoader(Stream(), 2),
        DataLoader(DATA, 8, sampler=WeightedRandomSampler([1.0] * 50, 20)),
        DataLoader(DATA, 50, drop_last=True),
        DataLoader(TensorDataset(torch.zeros(1))),
        [torch.zeros(2)],
        iter([1]),
        object(),
    ],
)
def test_where_samples_cannot_be_told_apart_nothing_is_held_out(loader):
    assert hold_out(loader) is None


def test_shares():
    assert [len(pick(n)[1]) for n in (2, 14, 15, 100, 1_000_000)] == [1, 1, 2, 10, 10_000]
