"""Model files that the tests write, and the small nets in them."""

from __future__ import annotations

import textwrap
from pathlib import Path

PLAIN = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

STEPS = 40

def build_model():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))

def train_dataloader():
    x = torch.randn(40, 3)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)

def loss(model, batch):
    x, y = batch
    return (model(x) - y).square().mean()
"""


def write(folder: Path, text: str, name: str = "model.py") -> str:
    """Writes a file below `folder` and returns its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return str(path)
