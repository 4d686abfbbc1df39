"""Whether a loop of the user's own goes on with the weights of an earlier trial, which it must not."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch

from autoopt.errors import WorkloadError
from autoopt.optim.groups import Group

_LOOKED_AT = 16
"""Tensors of an optimizer that are compared: training moves nearly all of them."""


class Carried:
    """Remembers what was given to `make_optimizer` for each seed, and what it was worth then.

    A loop may restore its weights in place, so the same tensor is no fault; the same tensor with other values under the
    same seed is one.
    """

    def __init__(self) -> None:
        self._before: dict[tuple[int, int], tuple[weakref.ref[torch.Tensor], float]] = {}

    def check(self, groups: Sequence[Group], seed: int, where: str) -> None:
        """To be called before anything of a trial is trained.

        Raises:
            WorkloadError: a tensor that an earlier trial of this seed trained is given again as that left it.
        """
        parameters = [p for group in groups for p in group.params][:_LOOKED_AT]
        for parameter in parameters:
            key, value = (id(parameter), seed), float(parameter.detach().double().abs().sum())
            known = self._before.get(key)
            if known is None or known[0]() is not parameter:
                self._before[key] = weakref.ref(parameter), value
            elif known[1] != value:
                raise WorkloadError(
                    f"{where} goes on with the weights that an earlier trial has trained.",
                    "Build the model inside run(), so that every trial starts anew.",
                )
