"""Models that compute their own loss: `model(**batch).loss`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from autoopt.errors import WorkloadError
from autoopt.workload.data import samples

_IGNORED = -100
"""The label that the losses of transformers leave out."""


def loss(model: nn.Module, batch: Any) -> Any:
    """The `.loss` of the model's output for a batch (a mapping goes in as keyword arguments).

    Raises WorkloadError when the output has none, e.g. because the batch has no labels.
    """
    if isinstance(batch, Mapping):
        output = model(**batch)
    elif isinstance(batch, (tuple, list)):
        output = model(*batch)
    else:
        output = model(batch)
    found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if found is None:
        without = isinstance(batch, Mapping) and "labels" not in batch
        reason = (
            "its batch has no 'labels'" if without else f"it returned a {type(output).__name__} without one"
        )
        raise WorkloadError(
            f"There is no loss() and the model gives none: {reason}.",
            "Write loss(model, batch) returning a scalar tensor, or give batches for which the model returns .loss.",
        )
    return found


def weigh(model: nn.Module, batch: Any) -> int:
    """What the loss of a batch is a mean over: where each token has a label, the labels that count; else samples.

    A causal language model predicts all tokens but the first.
    """
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    if not isinstance(labels, Tensor) or labels.ndim < 2 or labels.dtype not in (torch.int64, torch.int32):
        return samples(batch) or 1
    decoder = not getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    if decoder and getattr(getattr(model, "loss_function", None), "__name__", "") == "ForCausalLMLoss":
        labels = labels[..., 1:]
    return int((labels != _IGNORED).sum())
