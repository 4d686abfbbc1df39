"""Low-rank fine-tuning (Hu et al. 2021, 2106.09685): a GPT of program sources learns to read documentation.

The pretrained weights are `lora_base.npz`; `python -m benchmarks.choice.pretrain` makes them again.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .attention import GPT
from .data import loader, prose, windows

STEPS, CONTEXT, WIDTH, DEPTH, RANK = 200, 32, 32, 2, 4
BASE = Path(__file__).with_name("lora_base.npz")


class LowRank(nn.Module):
    """W x + B A x with W frozen; B begins at zero."""

    def __init__(self, frozen: nn.Linear) -> None:
        super().__init__()
        self.frozen = frozen
        self.down = nn.Parameter(torch.empty(RANK, frozen.in_features))
        self.up = nn.Parameter(torch.zeros(frozen.out_features, RANK))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(x) + 2 * F.linear(F.linear(x, self.down), self.up)


def build_model() -> nn.Module:
    model = GPT(WIDTH, DEPTH, CONTEXT)
    with np.load(BASE) as base:
        model.load_state_dict({name: torch.from_numpy(base[name]).float() for name in base.files})
    model.requires_grad_(False)
    for block in model.blocks:
        for name in ("qkv", "down"):
            setattr(block, name, LowRank(getattr(block, name)))
    return model


def train_dataloader() -> DataLoader:
    return loader(windows(prose(held_out=False), CONTEXT), batch=8, shuffle=True)


def val_dataloader() -> DataLoader:
    return loader(windows(prose(held_out=True)[:4000], CONTEXT), batch=84, shuffle=False)


def loss(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0][:, :-1]).flatten(0, 1), batch[0][:, 1:].flatten())
