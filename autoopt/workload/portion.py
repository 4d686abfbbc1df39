"""A batch cut to its first samples."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from autoopt.workload.data import convert, samples


def portion(batch: Any, size: int) -> Any:
    """The first `size` samples of a batch; None when it cannot be cut.

    >>> import torch
    >>> portion({"x": torch.zeros(8, 3), "scale": torch.tensor(2.0)}, 2)["x"].shape
    torch.Size([2, 3])
    """
    whole = samples(batch)
    cuts = 0

    def leaf(value: Any) -> Any:
        nonlocal cuts
        if isinstance(value, Tensor) and value.ndim and value.shape[0] == whole:
            cuts += 1
            return value[:size]
        return value

    cut = convert(batch, leaf)
    return cut if cuts else None
