"""A model file for autoopt. It runs as it is; replace each part with yours.

autoopt check model.py
autoopt profile model.py --budget 60s

A function may also declare a parameter `ctx`: step, total_steps, real_steps, seed, device, rank, world_size,
is_trial, args (what followed `--` on the command line).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

# --- settings of the real run; each has a flag, which wins -----------------------------------------------

STEPS = 2000  # optimizer steps
# ACCUMULATE = 1              # batches per optimizer step
# GLOBAL_BATCH = 256          # instead: samples per optimizer step, over all processes
# CLIP = 1.0                  # largest norm of the gradient
# PRECISION = "fp32"          # "bf16" or "fp16": autocast around loss(), which need not do it
# SCHEDULE = "cosine"         # "linear", "constant", "wsd"
# WARMUP = 0.05               # a share of the run, or a number of steps
METRIC = ("accuracy", "max")  # which of evaluate()'s numbers is compared; without it the validation loss


# --- what must be here -----------------------------------------------------------------------------------


def build_model() -> nn.Module:
    """The model, on the CPU. autoopt seeds, moves it and puts its initial weights back for each trial."""
    return nn.Sequential(nn.Linear(2, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 3))


def spirals(samples: int, seed: int) -> TensorDataset:
    """Three arms of a spiral, with noise: which arm does a point lie on?"""
    generator = torch.Generator().manual_seed(seed)
    arm = torch.randint(0, 3, (samples,), generator=generator)
    radius = torch.rand(samples, generator=generator)
    noise = 0.15 * torch.randn(samples, generator=generator)
    angle = 4 * radius + arm * (2 * torch.pi / 3) + noise
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    return TensorDataset(points, arm)


def train_dataloader() -> DataLoader[tuple[Tensor, ...]]:
    """Batches of any kind: tensors, tuples, dicts, dataclasses. A generator function does as well."""
    return DataLoader(spirals(4096, seed=1), batch_size=64, shuffle=True)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """A scalar. The batch is on the model's device. Not needed if model(**batch) returns `.loss`."""
    points, arm = batch
    return F.cross_entropy(model(points), arm)


# --- what may be here ------------------------------------------------------------------------------------


def val_dataloader() -> DataLoader[tuple[Tensor, ...]]:
    """Held-out batches. Without it a tenth of the training samples is held out."""
    return DataLoader(spirals(1024, seed=2), batch_size=256)


def evaluate(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """A number or a dict of numbers, in eval mode and without gradients."""
    right = [(model(points).argmax(1) == arm).float() for points, arm in batches]
    return {"accuracy": float(torch.cat(right).mean())}


def configure_optimizers(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer you use today: every result is compared with it. (optimizer, scheduler) does as well."""
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


# def reset(model, seed): ...     # redraws what differs between seeds, where building anew is dear
# def after_step(model): ...      # after each optimizer step: an average of weights, a clipping
