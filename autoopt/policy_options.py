"""What a policy says of clipping, warm-up and batch size: left as they are, or tried as well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

_MOST = 5
"""Values of an option: each costs a trial of the real run's length, where trials are that long."""
_MULTIPLES = (
    "off, or a list of multiples of your own effective batch: whole numbers from 2 to 16, 0.5 or 0.25"
)
_LARGEST = 16
"""A larger number is taken for samples, which is what people think of first."""


class Tune(BaseModel):
    """What may be changed beside the optimizer and its own settings.

    Lists hold the values that are tried for the leading configuration, after the real run's own value.

    >>> Tune.model_validate({"clip": [0.5, 1], "warmup": False}).words()
    {'clip': 'also 0.5, 1', 'warmup': 'as it is', 'batch size': 'as it is'}
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    clip: Literal["auto", "off"] | tuple[float, ...] = Field(
        "auto", description="largest norm of the gradient; auto: clipped where the first gradients spike"
    )
    warmup: Literal["off"] | tuple[float, ...] = Field("off", description="shares of the run")
    batch_size: Literal["off"] | tuple[float, ...] = Field(
        "off", description="multiples of the run's own effective batch, compared at equal samples"
    )

    @field_validator("clip", mode="before")
    @classmethod
    def _clip(cls, value: Any) -> Any:
        if value == "auto":
            return value
        found = _values(value, "auto, off, or a list of norms such as [0.5, 1.0]; off in it is no clipping")
        if any(norm < 0 for norm in found):
            raise ValueError(f"a norm is above 0 (or off: no clipping), not {min(found):g}")
        return found or "off"

    @field_validator("warmup", mode="before")
    @classmethod
    def _warmup(cls, value: Any) -> Any:
        found = _values(value, "off, or a list of shares of the run such as [0.02, 0.1]; off in it is none")
        for share in found:
            if not 0 <= share < 1:
                raise ValueError(f"a warm-up is a share of the run from 0 up to, but not, 1, not {share:g}")
        return found or "off"

    @field_validator("batch_size", mode="before")
    @classmethod
    def _batch_size(cls, value: Any) -> Any:
        found = _values(value, f"{_MULTIPLES}, such as [2, 4]")
        for multiple in found:
            if multiple not in (0.25, 0.5) and not (multiple.is_integer() and 1 <= multiple <= _LARGEST):
                raise ValueError(
                    f"this is {_MULTIPLES}; {multiple:g} is none (not samples: 2 is twice as many as you train with)"
                )
        return tuple(multiple for multiple in found if multiple != 1) or "off"

    def words(self) -> dict[str, str]:
        """Each option, as a user reads it."""
        said = {
            "clip": _words(self.clip),
            "warmup": _words(self.warmup),
            "batch size": _times(self.batch_size),
        }
        if self.clip == "auto":
            said["clip"] = "only where the first gradients spike, and yours is kept"
        return said


def _is_off(value: Any) -> bool:
    """YAML reads a bare `off` as false."""
    return value is False or value == "off"


def _values(value: Any, wanted: str) -> tuple[float, ...]:
    """The numbers of a list, each once, 0 for `off`; none for `off` itself."""
    if _is_off(value):
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError(f"this is {wanted}, not {value!r}")
    found = [0.0 if _is_off(item) else item for item in value]
    for item in found:
        if isinstance(item, bool) or not isinstance(item, int | float) or not math.isfinite(item):
            raise ValueError(f"this is {wanted}; {item!r} is no number")
    values = tuple(dict.fromkeys(float(item) for item in found))
    if len(values) > _MOST:
        raise ValueError(f"{len(values)} values are too many to try: give at most {_MOST}")
    return values


def _words(value: str | tuple[float, ...]) -> str:
    if isinstance(value, str):
        return "as it is"
    return "also " + ", ".join(f"{item:g}" if item else "none" for item in value)


def _times(value: str | tuple[float, ...]) -> str:
    """Multiples of the batch.

    >>> _times((2.0, 0.5))
    'also 2 x, 0.5 x yours, at equal samples'
    """
    if isinstance(value, str):
        return "as it is"
    return "also " + ", ".join(f"{item:g} x" for item in value) + " yours, at equal samples"
