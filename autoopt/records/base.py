"""What all records have in common: frozen, validated, free of NaN."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

BASELINE = "baseline"
"""Reserved optimizer name: the user's `configure_optimizers`, or AdamW at 1e-3 when there is none."""

Hyper = dict[str, float]
"""Flat hyperparameters, e.g. {"lr": 1e-3, "beta1": 0.9, "weight_decay": 0.01}; see `optim.spec`, and `options` for those
that are not the optimizer's."""


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _plain(value: Any) -> Any:
    """`value` as YAML and JSON can hold it: lists for tuples; NaN and infinity refused.

    Free-form fields are brought to this form when the record is made, so that they survive a round trip.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot be written")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


FreeForm = Annotated[dict[str, Any], AfterValidator(_plain)]
