"""A long run of a neural n-gram model (Bengio et al. 2003): the next character of program sources from the eight before."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .batches import Shuffled
from .data import VOCABULARY, sources, windows

STEPS, CONTEXT, EMBEDDED, WIDTH = 5120, 8, 6, 32
TRAIN = "argparse ast calendar configparser difflib doctest inspect pickle tarfile"


class NGram(nn.Module):
    """Next-character logits (batch, VOCABULARY) of codes (batch, CONTEXT)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, EMBEDDED)
        self.hidden = nn.Linear(CONTEXT * EMBEDDED, WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, codes: Tensor) -> Tensor:
        return self.head(self.hidden(self.embedding(codes).flatten(1)).tanh())


def build_model() -> nn.Module:
    return NGram()


def train_dataloader() -> Shuffled:
    return Shuffled(windows(sources(TRAIN), CONTEXT), batch=32)


def val_dataloader() -> list[tuple[Tensor]]:
    return [(windows(sources("textwrap"), CONTEXT),)]


def loss(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0][:, :-1]), batch[0][:, -1])
