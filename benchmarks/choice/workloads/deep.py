"""A deep net without normalization: which of 16 airlines flies there at that hour? Six tanh layers."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .data import apart, flights, loader

STEPS, WIDTH, DEPTH = 600, 64, 6


def rows() -> tuple[Tensor, Tensor]:
    """One-hot origin and destination, hour, length of the flight and time of the year; the carrier."""
    table = flights()
    year = 2 * math.pi * (table["month"] - 1 + table["day"] / 31) / 12
    places = [F.one_hot(table[name]).float() for name in ("origin", "dest")]
    numbers = [(table["hour"] - 13) / 5, (table["minutes"] - 150) / 94, year.sin(), year.cos()]
    return torch.cat([*places, torch.stack(numbers, dim=1)], dim=1), table["carrier"]


def train_dataloader() -> DataLoader:
    return loader(*apart(*rows(), held_out=False), batch=64, shuffle=True)


def val_dataloader() -> DataLoader:
    return loader(*apart(*rows(), held_out=True), batch=1500, shuffle=False)


def build_model() -> nn.Module:
    inputs, carriers = rows()
    widths = [inputs.shape[1], *[WIDTH] * DEPTH]
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    hidden = [part for layer in layers for part in (layer, nn.Tanh())]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, int(carriers.max()) + 1))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])
