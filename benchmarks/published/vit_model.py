"""A small vision transformer on the handwritten digits that ship with the examples."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from examples.digits_resnet import model as digits

STEPS, METRIC = 600, ("accuracy", "max")
WIDTH, HEADS, LAYERS, PATCH, PATCHES = 32, 4, 2, 2, 16
MEAN, SPREAD = 0.3, 0.38
"""Of the pixels, so that the input has about zero mean and unit variance."""

Batch = tuple[Tensor, Tensor]


class Block(nn.Module):
    """Attention and a feed-forward net, each behind a LayerNorm and around a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """8 x 8 pixels as 16 patches of 2 x 2; the mean over the patches is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, PATCH, stride=PATCH)
        # As large as the patches' part: with the usual 0.02 the mean over the patches hides where they were.
        self.position = nn.Parameter(0.5 * torch.randn(PATCHES, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches((images - MEAN) / SPREAD).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(tokens)).mean(1))


def build_model() -> nn.Module:
    return ViT()


def train_dataloader() -> DataLoader[Batch]:
    return digits.train_dataloader()


def val_dataloader() -> DataLoader[Batch]:
    return digits.val_dataloader()


def loss(model: nn.Module, batch: Batch) -> Tensor:
    return digits.loss(model, batch)


def evaluate(model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    hits = torch.cat([model(images).argmax(1) == labels for images, labels in batches])
    return {"accuracy": hits.float().mean().item()}
