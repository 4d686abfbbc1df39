"""A long run of a regression with a scalar output: minutes in the air from places and times, few flights at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .batches import Shuffled
from .data import apart, flights

STEPS, WIDTH = 5120, 24
METRIC = ("mae_minutes", "min")
MEAN, SPREAD = 150.0, 94.0


def rows() -> tuple[Tensor, Tensor]:
    """One-hot origin, destination and carrier, hour and time of the year; scaled minutes."""
    table = flights()
    year = 2 * math.pi * (table["month"] - 1 + table["day"] / 31) / 12
    places = [F.one_hot(table[name]).float() for name in ("origin", "dest", "carrier")]
    numbers = [(table["hour"] - 13) / 5, year.sin(), year.cos(), (2 * year).sin(), (2 * year).cos()]
    return torch.cat([*places, torch.stack(numbers, dim=1)], dim=1), (table["minutes"] - MEAN) / SPREAD


def train_dataloader() -> Shuffled:
    return Shuffled(*apart(*rows(), held_out=False), batch=16)


def val_dataloader() -> list[list[Tensor]]:
    return [apart(*rows(), held_out=True)]


def build_model() -> nn.Module:
    inputs, _ = rows()
    hidden = [nn.Linear(inputs.shape[1], WIDTH, bias=False), nn.GELU()]  # one-hot inputs bring a constant
    hidden += [nn.Linear(WIDTH, WIDTH, bias=False), nn.GELU()]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, 1), nn.Flatten(0))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


def evaluate(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    errors = [(model(inputs) - minutes).abs() * SPREAD for inputs, minutes in batches]
    return {"mae_minutes": torch.cat(errors).mean().item()}
