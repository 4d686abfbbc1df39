"""A recurrent net: an LSTM that reads Python's documentation, character by character; gradients clipped."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .data import VOCABULARY, loader, prose, windows

STEPS, CONTEXT, WIDTH = 360, 24, 48
CLIP = 1.0


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 32)
        self.lstm = nn.LSTM(32, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, codes: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(codes))[0])


def build_model() -> nn.Module:
    return Reader()


def train_dataloader() -> DataLoader:
    return loader(windows(prose(held_out=False), CONTEXT), batch=16, shuffle=True)


def val_dataloader() -> DataLoader:
    return loader(windows(prose(held_out=True)[:6000], CONTEXT), batch=125, shuffle=False)


def loss(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0][:, :-1]).flatten(0, 1), batch[0][:, 1:].flatten())
