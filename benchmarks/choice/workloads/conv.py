"""A convolutional net with BatchNorm: handwritten digits, random shifts."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .data import digits, loader, shifted

STEPS = 360


def stage(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


def build_model() -> nn.Module:
    head = [nn.Flatten(), nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 10)]
    return nn.Sequential(*stage(1, 16, 2), *stage(16, 32, 1), *stage(32, 32, 2), *head)


def train_dataloader() -> DataLoader:
    return loader(*digits(held_out=False), batch=32, shuffle=True)


def val_dataloader() -> DataLoader:
    return loader(*digits(held_out=True), batch=300, shuffle=False)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, labels = batch
    return F.cross_entropy(model(shifted(images) if model.training else images), labels)
