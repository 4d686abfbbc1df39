"""train.py under torchrun with gradients that are complex or sparse: two processes are one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoopt.records import BASELINE
from tests.report.test_train_script import recommend, trial, write_script
from tests.report.test_train_script_ranks import of_two, run

MODEL = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

STEPS = 20
ACCUMULATE = 2


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30, 5, sparse=True)
        self.turn = nn.Parameter(torch.randn(5, 3, dtype=torch.complex64))
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        z = self.words(x).mean(1).to(torch.complex64) @ self.turn
        return self.out(torch.cat([z.real, z.imag], 1))


def build_model():
    return Net()


def _data(seed, n):
    x = torch.randint(0, 30, (n, 3), generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x.sum(1) > 43).long())


def train_dataloader():
    return DataLoader(_data(0, 80), batch_size=8, shuffle=True)


def val_dataloader():
    return DataLoader(_data(1, 32), batch_size=8)


def loss(model, batch):
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)


def after_step(model):
    assert all(p.grad is None or p.grad.is_sparse == (n == "words.weight") for n, p in model.named_parameters())


def configure_optimizers(model):
    return torch.optim.SGD(model.parameters(), lr=0.5)
"""


@pytest.mark.long
@pytest.mark.parametrize("profiled_by", [1, 2])
def test_two_processes_average_complex_and_sparse_gradients(profiled_by: int, tmp_path: Path) -> None:
    model = tmp_path / "model.py"
    model.write_text(MODEL)
    rec, spec = recommend(model, BASELINE, 0.5)
    path = write_script(of_two(rec) if profiled_by == 2 else rec, model)
    code, outcome, err = run(path)
    assert code == 0, err
    assert outcome["val_loss"] == pytest.approx(trial(model, spec).loss, rel=1e-4)
