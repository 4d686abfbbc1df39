"""A character-level GPT on sources of the standard library."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .attention import GPT
from .data import loader, sources, windows

STEPS, CONTEXT, WIDTH = 240, 32, 32
TRAIN = "argparse ast calendar configparser difflib doctest inspect pickle tarfile"


def build_model() -> nn.Module:
    return GPT(WIDTH, depth=2, context=CONTEXT)


def train_dataloader() -> DataLoader:
    return loader(windows(sources(TRAIN), CONTEXT), batch=8, shuffle=True)


def val_dataloader() -> DataLoader:
    return loader(windows(sources("textwrap")[:4000], CONTEXT), batch=64, shuffle=False)


def loss(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0][:, :-1]).flatten(0, 1), batch[0][:, 1:].flatten())
