"""A plain recurrent net (Elman's) on the adding problem: the sum of the two marked numbers of a sequence of 20.

From Pascanu 2013 (arXiv 1211.5063), whose example of exploding gradients such nets are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

STEPS, LENGTH, WIDTH = 600, 20, 64


def sequences(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.rand(count, LENGTH, generator=generator)
    marks, rows = torch.zeros(count, LENGTH), torch.arange(count)
    marks[rows, torch.randint(0, LENGTH // 2, (count,), generator=generator)] = 1
    marks[rows, torch.randint(LENGTH // 2, LENGTH, (count,), generator=generator)] = 1
    return TensorDataset(torch.stack([numbers, marks], dim=-1), (numbers * marks).sum(dim=1))


class Adder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1]).squeeze(-1)


def build_model() -> nn.Module:
    return Adder()


def train_dataloader() -> DataLoader:
    return DataLoader(sequences(6000, 1), batch_size=32, shuffle=True)


def val_dataloader() -> DataLoader:
    return DataLoader(sequences(1000, 2), batch_size=250)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])
