"""Regression with a scalar output: minutes in the air of flights from New York."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .data import apart, flights, loader

STEPS, WIDTH = 800, 64
METRIC = ("mae_minutes", "min")
MEAN, SPREAD = 150.0, 94.0


def rows() -> tuple[Tensor, Tensor]:
    """One-hot carrier, origin and destination, hour and time of the year; scaled minutes."""
    table = flights()
    year = 2 * math.pi * (table["month"] - 1 + table["day"] / 31) / 12
    places = [F.one_hot(table[name]).float() for name in ("carrier", "origin", "dest")]
    numbers = [(table["hour"] - 13) / 5, year.sin(), year.cos(), (2 * year).sin(), (2 * year).cos()]
    return torch.cat([*places, torch.stack(numbers, dim=1)], dim=1), (table["minutes"] - MEAN) / SPREAD


def train_dataloader() -> DataLoader:
    return loader(*apart(*rows(), held_out=False), batch=64, shuffle=True)


def val_dataloader() -> DataLoader:
    return loader(*apart(*rows(), held_out=True), batch=1500, shuffle=False)


def build_model() -> nn.Module:
    inputs, _ = rows()
    hidden = [nn.Linear(inputs.shape[1], WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU()]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, 1), nn.Flatten(0))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


def evaluate(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    errors = [(model(inputs) - minutes).abs() * SPREAD for inputs, minutes in batches]
    return {"mae_minutes": torch.cat(errors).mean().item()}
