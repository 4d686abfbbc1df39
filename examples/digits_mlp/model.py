"""Handwritten digits with a multilayer perceptron: the smallest complete `model.py`.

1797 images of 8 x 8 pixels; the last third, mostly by other writers, is for validation. Run at the root:

    autoopt profile examples/digits_mlp/model.py --budget 60s
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

STEPS = 1500
BATCH = 64
DATA = Path(__file__).resolve().parents[1] / "data" / "digits.csv.gz"


@cache
def digits() -> tuple[TensorDataset, TensorDataset]:
    table = torch.from_numpy(np.loadtxt(DATA, delimiter=",", dtype=np.float32))
    images, labels = table[:, :64] / 16, table[:, 64].long()
    # Neighbours in the file are by the same writer, so the last third is mostly in unseen hands.
    return TensorDataset(images[:1200], labels[:1200]), TensorDataset(images[1200:], labels[1200:])


def train_dataloader() -> DataLoader:
    data, _ = digits()
    # A sampler of whole batches: one indexing a batch, not 64 and a collate.
    return DataLoader(data, batch_size=None, sampler=BatchSampler(RandomSampler(data), BATCH, drop_last=True))


def val_dataloader() -> DataLoader:
    _, data = digits()
    return DataLoader(data, batch_size=None, sampler=BatchSampler(range(len(data)), 256, drop_last=False))


def build_model() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 256),
        nn.LayerNorm(256),
        nn.GELU(),
        nn.Dropout(0.3),
        nn.Linear(256, 256),
        nn.LayerNorm(256),
        nn.GELU(),
        nn.Dropout(0.3),
        nn.Linear(256, 10),
    )


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, labels = batch
    if model.training:  # nobody writes in the middle of the box: shift by up to a pixel
        shifts = torch.randint(-1, 2, (2,)).tolist()
        images = images.view(-1, 8, 8).roll(shifts, (1, 2)).flatten(1)
    return F.cross_entropy(model(images), labels)
