"""Handwritten digits with a residual convolutional net: BatchNorm, random shifts, accuracy decides.

autoopt profile examples/digits_resnet/model.py --budget 60s
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

STEPS = 500
DATA = Path(__file__).resolve().parents[1] / "data" / "digits.csv.gz"


class Residual(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))), the pre-activation block of He et al. 2016 (1603.05027)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False)]
        again = [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False)]
        self.body = nn.Sequential(*layers, *again)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def build_model() -> nn.Module:
    stem, widen = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 2, stride=2)
    head = [nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    return nn.Sequential(stem, Residual(16), widen, Residual(32), *head)


@cache
def digits() -> tuple[TensorDataset, TensorDataset]:
    table = torch.from_numpy(np.loadtxt(DATA, delimiter=",", dtype=np.float32))
    images, labels = table[:, :64].view(-1, 1, 8, 8) / 16, table[:, 64].long()
    # Neighbours in the file are by the same writer, so the last third is mostly in unseen hands.
    return TensorDataset(images[:1200], labels[:1200]), TensorDataset(images[1200:], labels[1200:])


def train_dataloader() -> DataLoader:
    data, _ = digits()
    return DataLoader(data, batch_size=None, sampler=BatchSampler(RandomSampler(data), 64, drop_last=True))


def val_dataloader() -> DataLoader:
    _, data = digits()
    return DataLoader(data, batch_size=None, sampler=BatchSampler(range(len(data)), 256, drop_last=False))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, labels = batch
    if model.training:  # the whole batch moves by up to one pixel each way
        images = images.roll(tuple(torch.randint(-1, 2, (2,)).tolist()), dims=(2, 3))
    return F.cross_entropy(model(images), labels)


def configure_optimizers(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
