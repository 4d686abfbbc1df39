from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from autoopt.errors import WorkloadError
from autoopt.workload.boundary import UserCode
from autoopt.workload.source import Source
from autoopt.workload.validation import Batches, Held

CODE = UserCode(Path.cwd())
DATA = TensorDataset(torch.arange(40.0))


def _held(loader, cache_bytes: int = 1 << 20) -> Held:
    return Held(Source(loader, "val_dataloader", CODE), cache_bytes)


def test_all_batches_and_even_choices():
    held = _held(DataLoader(DATA, 4))
    assert (len(held), held.note) == (10, "")
    assert held.chosen(None) == held.chosen(99) == list(range(10))
    assert held.chosen(3) == held.chosen(3) == [1, 5, 8]
    assert held.chosen(0) == [5]


class Counted(Dataset):
    read = 0

    def __len__(self):
        return 40

    def __getitem__(self, index):
        Counted.read += 1
        return torch.tensor([float(index)])


def test_beyond_the_cap_an_even_share_is_read_and_said():
    held = _held(DataLoader(Counted(), 4), cache_bytes=3 * 16)
    assert [int(b[0]) for b in held.batches] == [4, 20, 32]
    assert "3 of 10 validation batches" in held.note
    assert Counted.read == 4 * (1 + 3)  # the data set is not read whole
    shuffled = _held(DataLoader(DATA, 4, shuffle=True), cache_bytes=3 * 16)
    assert len(shuffled) == 3


def test_a_loader_that_never_ends():
    def forever():
        return (torch.tensor([float(i)]) for i in count())

    held = _held(forever, cache_bytes=5 * 4)
    assert [int(b) for b in held.batches] == [0, 1, 2, 3, 4]
    assert "first 5" in held.note


def test_the_users_code_cannot_change_the_kept_batches():
    held = _held([torch.ones(2)])
    batches = Batches(held, None, torch.device("cpu"))
    for batch in batches:
        batch.zero_()
    assert len(batches) == 1
    assert batches[0].sum() == 2
    assert [b.sum() for b in batches] == [2]


def test_none_at_all():
    with pytest.raises(WorkloadError, match=r"val_dataloader\(\) gives no batch"):
        _held([])
