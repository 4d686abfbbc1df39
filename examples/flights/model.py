"""Time in the air of 24 000 flights from New York, 2013: embeddings of categories, then a perceptron.

autoopt profile examples/flights/model.py --budget 60s
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

STEPS = 2000
METRIC = ("mae_minutes", "min")
DATA = Path(__file__).resolve().parents[1] / "data" / "flights.csv.gz"
MEAN, SPREAD = 150.0, 94.0  # of the air time, minutes
Batch = dict[str, Tensor]


class Flights(TensorDataset):
    def __getitem__(self, index: list[int]) -> Batch:
        return dict(zip(("categories", "minutes"), super().__getitem__(index), strict=True))


@cache
def table() -> tuple[Tensor, Tensor, list[int]]:
    """Category indices (flights, 5), minutes (flights,), the number of values of each category."""
    carrier, origin, dest, month, day, hour, minutes = np.loadtxt(DATA, str, delimiter=",", skiprows=1).T
    date = np.char.add(np.char.add(month, "-"), day)
    columns = [np.unique(column, return_inverse=True) for column in (carrier, origin, dest, date, hour)]
    categories = torch.from_numpy(np.stack([index for _, index in columns], axis=1))
    return categories, torch.from_numpy(minutes.astype(np.float32)), [len(values) for values, _ in columns]


def loader(held_out: bool, batch: int) -> DataLoader:
    categories, minutes, _ = table()
    chosen = (torch.arange(len(minutes)) % 8 == 7) == held_out
    data = Flights(categories[chosen], minutes[chosen])
    order = range(len(data)) if held_out else RandomSampler(data)
    return DataLoader(data, batch_size=None, sampler=BatchSampler(order, batch, not held_out))


def train_dataloader() -> DataLoader:
    return loader(held_out=False, batch=128)


def val_dataloader() -> DataLoader:
    return loader(held_out=True, batch=1000)


class Model(nn.Module):
    def __init__(self, sizes: list[int], width: int = 16) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        hidden = nn.Linear(width * len(sizes), 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()
        self.mlp = nn.Sequential(*hidden, nn.Linear(128, 1))

    def forward(self, categories: Tensor) -> Tensor:
        parts = [table(column) for table, column in zip(self.embeddings, categories.T, strict=True)]
        return self.mlp(torch.cat(parts, dim=1)).squeeze(1)


def build_model() -> nn.Module:
    return Model(table()[2])


def loss(model: nn.Module, batch: Batch) -> Tensor:
    return F.huber_loss(model(batch["categories"]), (batch["minutes"] - MEAN) / SPREAD, delta=0.3)


def evaluate(model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    errors = [(model(batch["categories"]) * SPREAD + MEAN - batch["minutes"]).abs() for batch in batches]
    return {"mae_minutes": torch.cat(errors).mean().item()}
