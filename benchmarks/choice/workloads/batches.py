"""Batches without a DataLoader: beside the short steps of the long workloads its fetching would be most of the time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class Shuffled:
    """Whole batches in a new order at each pass, drawn from torch's generator; the last short one is left out."""

    def __init__(self, *tensors: Tensor, batch: int) -> None:
        self._tensors, self._batch = tensors, batch

    def __len__(self) -> int:
        return len(self._tensors[0]) // self._batch

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        order = torch.randperm(len(self._tensors[0]))[: len(self) * self._batch]
        for rows in order.split(self._batch):
            yield tuple(tensor[rows] for tensor in self._tensors)
