"""A vision transformer: handwritten digits as 16 patches of 2 x 2 pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .attention import Block
from .data import digits, loader

STEPS, WIDTH = 220, 32


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, WIDTH, kernel_size=2, stride=2)
        self.position = nn.Parameter(torch.randn(16, WIDTH) * 0.02)
        self.blocks = nn.Sequential(*(Block(WIDTH, heads=4, causal=False) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patch(images).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(tokens)).mean(dim=1))


def build_model() -> nn.Module:
    return ViT()


def train_dataloader() -> DataLoader:
    return loader(*digits(held_out=False), batch=32, shuffle=True)


def val_dataloader() -> DataLoader:
    return loader(*digits(held_out=True), batch=300, shuffle=False)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, labels = batch
    return F.cross_entropy(model(images), labels)
