"""Real data without a download: digits and flights of the examples, Python's own sources and documentation."""

from __future__ import annotations

import sysconfig
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

DATA = Path(__file__).resolve().parents[3] / "examples" / "data"
STDLIB = Path(sysconfig.get_path("stdlib"))
VOCABULARY = 128
"""Of texts: ASCII; every other character becomes the last code."""


def loader(*tensors: Tensor, batch: int, shuffle: bool) -> DataLoader:
    """Whole batches by one indexing each; in training shuffled, without the last short one."""
    data = TensorDataset(*tensors)
    order = RandomSampler(data) if shuffle else range(len(data))
    return DataLoader(data, batch_size=None, sampler=BatchSampler(order, batch, drop_last=shuffle))


@cache
def digits(held_out: bool) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 8, 8) in [0, 1] and labels; the last third, mostly by other writers, is held out."""
    table = torch.from_numpy(np.loadtxt(DATA / "digits.csv.gz", delimiter=",", dtype=np.float32))
    part = table[1200:] if held_out else table[:1200]
    return part[:, :64].view(-1, 1, 8, 8) / 16, part[:, 64].long()


def shifted(images: Tensor) -> Tensor:
    """The whole batch moved by up to a pixel each way: nobody writes in the middle of the box."""
    return images.roll(tuple(torch.randint(-1, 2, (2,)).tolist()), dims=(-2, -1))


@cache
def flights() -> dict[str, Tensor]:
    """Columns of 24 000 flights: categories as indices, numbers as float32."""
    columns = np.loadtxt(DATA / "flights.csv.gz", str, delimiter=",", skiprows=1).T
    names = ("carrier", "origin", "dest", "month", "day", "hour", "minutes")
    found = dict(zip(names, columns, strict=True))
    categories = {name: np.unique(found[name], return_inverse=True)[1] for name in names[:3]}
    numbers = {name: found[name].astype(np.float32) for name in names[3:]}
    return {name: torch.from_numpy(values) for name, values in (categories | numbers).items()}


def apart(*tensors: Tensor, held_out: bool) -> list[Tensor]:
    """Every eighth row is held out."""
    chosen = (torch.arange(len(tensors[0])) % 8 == 7) == held_out
    return [tensor[chosen] for tensor in tensors]


def sources(names: str) -> bytes:
    """The text of modules of the standard library, named in one string."""
    return b"".join((STDLIB / f"{name}.py").read_bytes() for name in names.split())


def prose(held_out: bool) -> bytes:
    """Python's documentation by topics, as `help()` shows it; every tenth topic is held out."""
    texts = [topics[name] for name in sorted(topics)]
    return "\n".join(text for i, text in enumerate(texts) if (i % 10 == 9) == held_out).encode()


def windows(text: bytes, length: int) -> Tensor:
    """Pieces of `length` + 1 characters as codes: (pieces, length + 1), each a step of `length` further."""
    codes = torch.frombuffer(bytearray(text), dtype=torch.uint8).long().clamp(max=VOCABULARY - 1)
    return codes.unfold(0, length + 1, length)
