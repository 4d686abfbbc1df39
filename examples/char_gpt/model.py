"""A character-level GPT on the sources of the standard library, which every installed Python has.

autoopt profile examples/char_gpt/model.py --budget 60s
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

STEPS, CONTEXT, WIDTH, HEADS, VOCABULARY = 400, 64, 64, 4, 128
STDLIB = Path(sysconfig.get_path("stdlib"))
TRAIN = "argparse ast calendar configparser difflib doctest inspect pickle tarfile"
HELD_OUT = "textwrap"


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks, self.norm = nn.Sequential(Block(), Block()), nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.token.weight  # tied, so it must start small or the first loss is huge
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, characters: Tensor) -> Tensor:
        tokens = self.token(characters) + self.position.weight[: characters.shape[1]]
        return self.head(self.norm(self.blocks(tokens)))


def build_model() -> nn.Module:
    return GPT()


def loader(modules: str, batch: int, shuffle: bool) -> DataLoader:
    source = b"".join((STDLIB / f"{name}.py").read_bytes() for name in modules.split())
    text = torch.frombuffer(bytearray(source), dtype=torch.uint8).long().clamp(max=VOCABULARY - 1)
    windows = text.unfold(0, CONTEXT + 1, CONTEXT)  # (windows, CONTEXT + 1)
    data = TensorDataset(windows[:, :-1], windows[:, 1:])
    order = BatchSampler(RandomSampler(data) if shuffle else range(len(data)), batch, drop_last=shuffle)
    return DataLoader(data, batch_size=None, sampler=order)


def train_dataloader() -> DataLoader:
    return loader(TRAIN, 8, shuffle=True)


def val_dataloader() -> DataLoader:
    return loader(HELD_OUT, 64, shuffle=False)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())


def configure_optimizers(model: nn.Module) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}
    return torch.optim.AdamW([{"params": matrices}, vectors], lr=1e-3, weight_decay=0.1)
