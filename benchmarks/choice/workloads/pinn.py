"""A physics-informed net: Burgers' equation u_t + u u_x = nu u_xx on -1 < x < 1, 0 < t < 1 (Raissi 2019).

The initial condition u = -sin(pi x) and the walls u = 0 are built into the ansatz, so the loss is the residual
alone; it differentiates the net twice.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .data import loader

STEPS, WIDTH, NU = 300, 24, 0.03


class Field(nn.Module):
    """u(x, t) = -sin(pi x) + t (1 - x^2) net(x, t) at points (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        hidden = [nn.Linear(2, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh()]
        self.net = nn.Sequential(*hidden, nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1))

    def forward(self, points: Tensor) -> Tensor:
        x, t = points.unbind(1)
        return -torch.sin(math.pi * x) + t * (1 - x * x) * self.net(points).squeeze(1)


def build_model() -> nn.Module:
    return Field()


def points(number: int, seed: int) -> Tensor:
    """Quasi-random points (number, 2) of space and time."""
    drawn = torch.quasirandom.SobolEngine(2, scramble=True, seed=seed).draw(number)
    return torch.stack([2 * drawn[:, 0] - 1, drawn[:, 1]], dim=1)


def train_dataloader() -> DataLoader:
    return loader(points(8192, seed=1), batch=128, shuffle=True)


def val_dataloader() -> DataLoader:
    return loader(points(1024, seed=2), batch=1024, shuffle=False)


def loss(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    with torch.enable_grad():  # the residual needs derivatives in validation too
        where = batch[0].detach().requires_grad_(True)
        u = model(where)
        (first,) = torch.autograd.grad(u.sum(), where, create_graph=True)
        u_x, u_t = first.unbind(1)
        (second,) = torch.autograd.grad(u_x.sum(), where, create_graph=True)
        return (u_t + u * u_x - NU * second[:, 0]).square().mean()
