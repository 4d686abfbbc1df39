"""A function that gives one batch at each call, as nanoGPT's `get_batch`: a source without an end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


class Calls:
    """Batches without end, one for each call of a function.

    >>> from itertools import islice
    >>> counter = iter(range(9))
    >>> list(islice(Calls(lambda: next(counter)), 3))
    [0, 1, 2]
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield self._function()


def is_batch(value: Any) -> bool:
    """Whether what a loader function returned is one batch: a tensor, tensors of as many samples in a tuple, or in a dict.

    A list is not: a list of tensors is a list of batches.

    >>> import torch
    >>> x, y = torch.zeros(8, 3), torch.zeros(8)
    >>> is_batch((x, y)), is_batch({"x": x}), is_batch([x, y]), is_batch((x, y[:2]))
    (True, True, False, False)
    """
    if isinstance(value, Tensor):
        return True
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(part, Tensor) for part in value.values())
    if not isinstance(value, tuple) or not value or not all(isinstance(part, Tensor) for part in value):
        return False
    return len({tuple(part.shape[:1]) for part in value}) == 1
