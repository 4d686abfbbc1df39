"""An autoencoder: handwritten digits through six numbers and back."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .data import digits, loader, shifted

STEPS, CODE = 650, 6


def build_model() -> nn.Module:
    encoder = [nn.Linear(64, 96), nn.GELU(), nn.Linear(96, CODE)]
    decoder = [nn.Linear(CODE, 96), nn.GELU(), nn.Linear(96, 64)]
    return nn.Sequential(nn.Flatten(), *encoder, *decoder)


def train_dataloader() -> DataLoader:
    return loader(digits(held_out=False)[0], batch=64, shuffle=True)


def val_dataloader() -> DataLoader:
    return loader(digits(held_out=True)[0], batch=600, shuffle=False)


def loss(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    images = shifted(batch[0]) if model.training else batch[0]
    return F.mse_loss(model(images), images.flatten(1))
