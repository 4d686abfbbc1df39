"""Models that compute their own loss: `model(**batch).loss`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from autoopt.errors import WorkloadError


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
