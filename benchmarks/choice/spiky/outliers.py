"""Regression whose labels are wrong once in two hundred, by a thousand: a batch that holds one has a huge gradient.

Another size may be given: `autoopt profile benchmarks/choice/spiky/outliers.py -- 30`.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

STEPS, WIDTH = 600, 8
SIZE = float(sys.argv[1]) if len(sys.argv) > 1 else 1000.0


def points(count: int, seed: int, wrong: float) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, WIDTH, generator=generator) * 2 - 1
    y = torch.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2]
    broken = torch.rand(count, generator=generator) < wrong
    signs = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    return TensorDataset(x, torch.where(broken, y + SIZE * signs, y))


def build_model() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))


def train_dataloader() -> DataLoader:
    return DataLoader(points(6000, 1, 0.005), batch_size=32, shuffle=True)


def val_dataloader() -> DataLoader:
    return DataLoader(points(1000, 2, 0.0), batch_size=250)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]).squeeze(-1), batch[1])
