"""A recommender: modules of the standard library are the users, names in their text the items.

Implicit feedback: a name that a module uses against one drawn at random, weighted alike. Factors and a perceptron
side by side, as in He et al. 2017 (1708.05031).
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .data import STDLIB, loader

STEPS, WIDTH = 550, 12


@cache
def interactions() -> tuple[Tensor, int, int]:
    """Rows (user, item that it uses, item that it does not), the number of users and of items."""
    texts = [file.read_text(errors="replace") for file in sorted(STDLIB.glob("*.py"))]
    used = [set(re.findall(r"[A-Za-z_]\w+", text)) for text in texts]
    counts = Counter(name for names in used for name in names)
    items = sorted(name for name, count in counts.items() if 6 <= count <= len(texts) // 2)
    index = {name: i for i, name in enumerate(items)}
    pairs = torch.tensor([(u, index[n]) for u, names in enumerate(used) for n in sorted(names) if n in index])
    known = set(map(tuple, pairs.tolist()))
    generator = torch.Generator().manual_seed(0)
    others = torch.randint(len(items), (len(pairs), 4), generator=generator).tolist()
    rows = [
        (user, item, next((o for o in drawn if (user, o) not in known), drawn[0]))
        for (user, item), drawn in zip(pairs.tolist(), others, strict=True)
    ]
    order = torch.randperm(len(rows), generator=generator)
    return torch.tensor(rows)[order], len(texts), len(items)


def train_dataloader() -> DataLoader:
    return loader(interactions()[0][3000:], batch=256, shuffle=True)


def val_dataloader() -> DataLoader:
    return loader(interactions()[0][:3000], batch=3000, shuffle=False)


class Recommender(nn.Module):
    def __init__(self, users: int, items: int) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(users, 2 * WIDTH), nn.Embedding(items, 2 * WIDTH)
        self.popularity = nn.Embedding(items, 1)
        self.mlp = nn.Sequential(nn.Linear(2 * WIDTH, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
        self.head = nn.Linear(16 + WIDTH, 1)
        for table in (self.user, self.item, self.popularity):
            nn.init.normal_(table.weight, std=0.05)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        (u, u2), (i, i2) = self.user(user).chunk(2, dim=-1), self.item(item).chunk(2, dim=-1)
        both = torch.cat([u * i, self.mlp(torch.cat([u2, i2], dim=-1))], dim=-1)
        return (self.head(both) + self.popularity(item)).squeeze(-1)


def build_model() -> nn.Module:
    _, users, items = interactions()
    return Recommender(users, items)


def loss(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    user, used, other = batch[0].T
    scores = model(torch.cat([user, user]), torch.cat([used, other]))
    wanted = torch.cat([torch.ones(len(user)), torch.zeros(len(user))])
    return F.binary_cross_entropy_with_logits(scores, wanted)
