"""Handwritten digits with a small vision transformer, as a LightningModule: nothing added for autoopt.

The 16 patches of 2 x 2 pixels are the tokens. Needs `pip install lightning`.

    autoopt profile examples/digits_lightning/model.py --budget 60s
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

STEPS = 600
DATA = Path(__file__).resolve().parents[1] / "data" / "digits.csv.gz"


class DigitsTransformer(LightningModule):
    def __init__(self, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.patch = nn.Conv2d(1, width, kernel_size=2, stride=2)
        self.position = nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)
        table = torch.from_numpy(np.loadtxt(DATA, delimiter=",", dtype=np.float32))
        self.images, self.labels = table[:, :64].view(-1, 1, 8, 8) / 16, table[:, 64].long()

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patch(images).flatten(2).transpose(1, 2) + self.position
        return self.head(self.encoder(tokens).mean(dim=1))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        logits = self(batch[0])
        self.log("val_loss", F.cross_entropy(logits, batch[1]))
        self.log("val_accuracy", (logits.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=0.05)

    def train_dataloader(self) -> DataLoader:
        data = TensorDataset(self.images[:1200], self.labels[:1200])
        return DataLoader(
            data, batch_size=None, sampler=BatchSampler(RandomSampler(data), 32, drop_last=True)
        )

    def val_dataloader(self) -> DataLoader:
        data = TensorDataset(self.images[1200:], self.labels[1200:])  # mostly other writers
        return DataLoader(data, batch_size=None, sampler=BatchSampler(range(len(data)), 256, drop_last=False))
