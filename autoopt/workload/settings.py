"""Settings of the real run: the file's constants, and the flags that win over them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from autoopt.batch import accumulate_for
from autoopt.errors import UsageError, WorkloadError
from autoopt.records import Flags, Origin, Settings

_PRECISIONS = ("fp32", "bf16", "fp16")
_SCHEDULES = ("cosine", "linear", "constant", "wsd", "yours")


def resolve(
    constants: Mapping[str, Any],
    flags: Flags,
    *,
    label: str,
    batches_per_epoch: int | None,
    own_schedule: bool,
    samples_per_batch: Callable[[], int | None] = lambda: None,
) -> Settings:
    """Settings with the origin of each in `origins`.

    Args:
        constants: STEPS, ACCUMULATE, ... as the user's file has them.
        batches_per_epoch: length of the training loader; needed for `flags.epochs` only.
        own_schedule: the user's `configure_optimizers` gives a scheduler; it counts unless a schedule is named.
        samples_per_batch: of the training loader; asked only where a global batch is given.

    Raises:
        WorkloadError: a constant with a value that cannot be; the message names it.
        UsageError: `--epochs` with a loader of unknown length; a global batch that is no multiple of the loader's.
    """
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for name in ("steps", "accumulate", "global_batch", "clip", "precision", "schedule", "metric"):
        if name.upper() in constants:
            values[name] = _check(name, constants[name.upper()], label)
            origins[name] = "file"
        given = getattr(flags, name, None)
        if given is not None:
            values[name] = given
            origins[name] = "flag"
    if values.get("metric") is not None:
        name, direction, *best = values["metric"]
        values["metric"], values["metric_best"] = (name, direction), (best[0] if best else None)
    _divide(values, origins, label, samples_per_batch, flags.nproc)
    _share_out(values, origins, flags.nproc or 1)
    if flags.steps is None and flags.epochs is not None:
        values["steps"] = _steps(flags.epochs, batches_per_epoch, values.get("accumulate", 1))
        origins["steps"] = "flag"
    if own_schedule and "schedule" not in values:
        values["schedule"] = "yours"
        origins["schedule"] = "file"
    if values.get("schedule") == "yours" and not own_schedule:
        raise WorkloadError(
            f'{label}: SCHEDULE = "yours", and configure_optimizers() gives no scheduler.',
            "Return (optimizer, scheduler) from it, or name a schedule: cosine, linear, constant, wsd.",
        )
    warmup = flags.warmup
    if warmup is None and "WARMUP" in constants:
        warmup = _number("WARMUP", constants["WARMUP"], label, minimum=0)
    if warmup is not None:
        origins["warmup"] = "flag" if flags.warmup is not None else "file"
        values["warmup"] = _share(warmup, values.get("steps", Settings().steps), origins["warmup"], label)
    for name in Settings.model_fields:
        if name not in (
            "origins",
            "global_batch",
            "ranks",
            "metric_best",
        ):  # nothing to be said where they were not given
            origins.setdefault(name, "default")
    return Settings(**values, origins=origins)


def _divide(
    values: dict[str, Any],
    origins: dict[str, Origin],
    label: str,
    samples_per_batch: Callable[[], int | None],
    nproc: int | None,
) -> None:
    """What a global batch makes of the accumulation. Of two that say how much is accumulated a flag beats the file."""
    if "global_batch" not in values:
        return
    origin = origins["global_batch"]
    if "accumulate" in values and origins["accumulate"] == origin:
        raise _twice(origin, label)
    if origins.get("accumulate") == "flag":
        del values["global_batch"], origins["global_batch"]
        return
    each = samples_per_batch()
    if each is None:
        raise UsageError(
            "A global batch needs batches whose samples can be counted, and yours hold no tensor.",
            "Give --accumulate, or ACCUMULATE in your file.",
        )
    ranks = nproc or _world_size()
    try:
        values["accumulate"] = accumulate_for(values["global_batch"], each, ranks)
    except UsageError as error:
        if origin == "flag":
            raise
        raise WorkloadError(f"{label}: {error.message}", error.hint) from None
    values["ranks"] = ranks
    origins["accumulate"] = origins["ranks"] = origin


def _share_out(values: dict[str, Any], origins: dict[str, Origin], ranks: int) -> None:
    """A step's batches are shared out among the processes where they can be; else each takes as many, as in train.py."""
    if ranks == 1:
        return
    each_once = values.get("accumulate", 1)
    values["accumulate"] = each_once if each_once % ranks == 0 else each_once * ranks
    values["ranks"] = ranks
    origins["ranks"] = "flag"


def _twice(origin: Origin, label: str) -> UsageError | WorkloadError:
    if origin == "flag":
        return UsageError("--accumulate and --global-batch say the same thing twice.", "Give one of them.")
    return WorkloadError(
        f"{label}: ACCUMULATE and GLOBAL_BATCH say the same thing twice.", "Keep one of them."
    )


def _world_size() -> int:
    """Processes of the real run, as torchrun tells those that it starts; 1 elsewhere."""
    told = os.environ.get("WORLD_SIZE", "1")
    if not told.isdecimal() or int(told) < 1:
        raise UsageError(
            f"WORLD_SIZE is {told!r}, which is no number of processes.", "Unset it, or set it right."
        )
    return int(told)


def _steps(epochs: float, batches_per_epoch: int | None, accumulate: int) -> int:
    if batches_per_epoch is None:
        raise UsageError(
            "--epochs needs a training loader with a length, and yours has none.", "Give --steps."
        )
    if not epochs > 0:
        raise UsageError(f"--epochs {epochs:g} is no training.", "Give a positive number.")
    return max(1, math.ceil(epochs * batches_per_epoch / accumulate))


def _share(warmup: float, steps: int, origin: Origin, label: str) -> float:
    share = warmup if warmup < 1 else warmup / steps
    if not 0 <= share < 1:
        name = "--warmup" if origin == "flag" else f"{label}: WARMUP ="
        error = UsageError if origin == "flag" else WorkloadError
        raise error(
            f"{name} {warmup:g} is not shorter than the run of {steps} steps.", "Give a share below 1."
        )
    return share


def _check(name: str, value: Any, label: str) -> Any:
    constant = name.upper()
    if name in ("steps", "accumulate", "global_batch"):
        number = _number(constant, value, label, minimum=1)
        if number != int(number):
            raise _wrong(constant, value, label, "a whole number")
        return int(number)
    if name == "clip":
        return None if value is None else _number(constant, value, label, above=0)
    if name == "metric":
        if value is None:
            return None
        ok = isinstance(value, (tuple, list)) and len(value) in (2, 3) and isinstance(value[0], str)
        if not ok or value[1] not in ("min", "max"):
            raise _wrong(constant, value, label, '("name", "max") or ("name", "min")')
        if len(value) == 3 and not _is_number(value[2]):
            wanted = f'("{value[0]}", "{value[1]}", BEST), BEST being the best value that it can have'
            raise _wrong(constant, value, label, wanted)
        return (*value[:2], *(float(best) for best in value[2:]))
    choices = _PRECISIONS if name == "precision" else _SCHEDULES
    if value not in choices:
        raise _wrong(constant, value, label, f"one of {', '.join(choices)}")
    return value


def _number(
    constant: str, value: Any, label: str, minimum: float | None = None, above: float | None = None
) -> float:
    if (
        not _is_number(value)
        or (minimum is not None and value < minimum)
        or (above is not None and value <= above)
    ):
        least = f"at least {minimum:g}" if minimum is not None else f"above {above:g}"
        raise _wrong(constant, value, label, f"a number {least}")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _wrong(constant: str, value: Any, label: str, wanted: str) -> WorkloadError:
    return WorkloadError(f"{label}: {constant} = {value!r}, but it must be {wanted}.", f"Correct {constant}.")
