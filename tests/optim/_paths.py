"""The ways that an update can go through the code: all of them give the same numbers."""

from __future__ import annotations

from typing import Any

import torch

Options = dict[str, Any]

TENSOR_RATE = "tensor_rate"
"""In a path: the learning rate comes as a tensor."""

# What a path is called here is what the optimizer is given.
# In float64 foreach=None and foreach=True are one: where that is the only precision, one of them will do.
ADAN_FLOAT64: list[Options] = [{"foreach": None}, {"foreach": False}, {"fused": True}]
ADAN: list[Options] = [*ADAN_FLOAT64, {"foreach": True}]
ADAN_TENSORS: list[Options] = [{"capturable": True}, {"differentiable": True}]
SGD_SAI_FLOAT64 = ADAN_FLOAT64
SGD_SAI = ADAN
SGD_SAI_TENSORS: list[Options] = [{"differentiable": True}]
ADAHESSIAN: list[Options] = [{"foreach": None}, {"foreach": False}]


def with_tensor_rates(paths: list[Options]) -> list[Options]:
    """The paths with the rate as a number and as a tensor, and the default path with a tensor."""
    return [*paths, *({**path, TENSOR_RATE: True} for path in ({}, *paths))]


def along(path: Options, options: Options) -> Options:
    """An optimizer's or a group's arguments: `options` on a path."""
    result = {**options, **{k: v for k, v in path.items() if k != TENSOR_RATE}}
    if TENSOR_RATE in path and "lr" in options:
        result["lr"] = torch.tensor(options["lr"], dtype=torch.float64)
    return result
