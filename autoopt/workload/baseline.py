"""The optimizer that the user has today: `configure_optimizers` in every form it may take."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from autoopt.errors import OptimizerUnavailable, WorkloadError
from autoopt.optim import registry
from autoopt.records import Baseline, Hyper

_TABLE_POINTS = 20_000
DEFAULT_LR = 1e-3


@dataclass(frozen=True)
class UserOptimizer:
    """An optimizer at its initial rates, and the shape of its schedule.

    `schedule` maps the share of the run that is done (0 to 1) to the multiple of the base rate; None when
    there is no scheduler. `hyper` is that of the group with the most parameters.
    """

    optimizer: Optimizer
    schedule: Callable[[float], float] | None
    name: str
    hyper: Hyper
    registry_name: str | None
    source: Literal["configure_optimizers", "default"]
    scheduler: str | None = None
    note: str = ""

    @property
    def given(self) -> bool:
        """Whether it is the user's own."""
        return self.source == "configure_optimizers"

    def record(self) -> Baseline:
        """What a report says of it."""
        return Baseline(
            source=self.source,
            optimizer=self.name,
            registry_name=self.registry_name,
            hyper=self.hyper,
            schedule=self.scheduler,
        )


@dataclass(frozen=True)
class Schedule:
    """A scheduler's multiples of the base rate over the real run, looked up by the share done."""

    table: tuple[float, ...]

    def __call__(self, share: float) -> float:
        index = int(share * len(self.table) + 1e-9)  # the share k / n is step k, whatever its rounding
        return self.table[min(max(index, 0), len(self.table) - 1)]


def default(model: nn.Module) -> UserOptimizer:
    """AdamW at 1e-3 with torch's other defaults: the baseline of those who have none."""
    return default_over([p for p in model.parameters() if p.requires_grad])


def default_over(parameters: list[Any]) -> UserOptimizer:
    """The same over parameters, or over groups of them."""
    optimizer = torch.optim.AdamW(parameters, lr=DEFAULT_LR)
    return UserOptimizer(optimizer, None, "AdamW", hyper_of(optimizer), "adamw", "default")


def parse(returned: Any, *, label: str, epoch_interval: bool) -> tuple[Optimizer, Any, dict[str, Any]]:
    """(optimizer, scheduler or None, scheduler's options) of what `configure_optimizers` returned.

    Takes an optimizer, (optimizer, scheduler), ([optimizer], [scheduler]), a list of one, Lightning's dict, or a
    list of one such dict.

    Raises:
        WorkloadError: several optimizers, each named, or none.
    """
    default_interval = "epoch" if epoch_interval else "step"
    options: dict[str, Any] = {"interval": default_interval}
    value, scheduler = returned, None
    pair = isinstance(value, (tuple, list)) and len(value) == 2
    if pair and _is_scheduler(value[1], lists=isinstance(value[0], (list, tuple))):
        value, scheduler = value
    if isinstance(value, (tuple, list)):
        items = [item["optimizer"] if isinstance(item, Mapping) else item for item in value]
        if len(items) != 1:
            names = ", ".join(type(item).__name__ for item in items)
            raise WorkloadError(
                f"{label}: configure_optimizers() returned {len(items)} optimizers ({names})."
                if items
                else f"{label}: configure_optimizers() returned no optimizer.",
                "autoopt compares single optimizers: use one with several parameter groups.",
            )
        value = value[0]
    if isinstance(value, Mapping):
        scheduler = value.get("lr_scheduler", scheduler)
        value = value.get("optimizer")
    if isinstance(scheduler, (list, tuple)):
        if len(scheduler) > 1:
            raise WorkloadError(
                f"{label}: configure_optimizers() returned {len(scheduler)} schedulers.",
                "Chain them: torch.optim.lr_scheduler.ChainedScheduler or SequentialLR.",
            )
        scheduler = scheduler[0] if scheduler else None
    if isinstance(scheduler, Mapping):
        options.update({k: v for k, v in scheduler.items() if k != "scheduler"})
        scheduler = scheduler.get("scheduler")
    if not isinstance(value, Optimizer):
        raise WorkloadError(
            f"{label}: configure_optimizers() returned {_kind(returned)}, not an optimizer.",
            "Return a torch.optim.Optimizer, or (optimizer, scheduler).",
        )
    return value, scheduler, options


def describe(
    optimizer: Optimizer,
    scheduler: Any,
    options: Mapping[str, Any],
    *,
    steps: int,
    steps_per_epoch: float | None,
) -> UserOptimizer:
    """The user's optimizer with its schedule tabulated over `steps` steps; its rates are set back.

    Args:
        options: Lightning's scheduler options; "interval" and "frequency" count.
        steps: optimizer steps of the real run.
        steps_per_epoch: needed when the scheduler steps by epoch.
    """
    before = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    table, note = _tabulate(optimizer, scheduler, options, steps, steps_per_epoch)
    for group, old in zip(optimizer.param_groups, before, strict=True):
        group.update(old)  # some schedulers drive betas and momentum too
        group["lr"] = group.get("initial_lr", group["lr"])
    return UserOptimizer(
        optimizer,
        Schedule(table) if table else None,
        type(optimizer).__name__,
        hyper_of(optimizer),
        _registry_name(type(optimizer)),
        "configure_optimizers",
        type(scheduler).__name__ if scheduler is not None else None,
        note,
    )


def _tabulate(
    optimizer: Optimizer, scheduler: Any, options: Mapping[str, Any], steps: int, per_epoch: float | None
) -> tuple[tuple[float, ...], str]:
    if scheduler is None:
        return (), ""
    name = type(scheduler).__name__
    if isinstance(scheduler, ReduceLROnPlateau):
        return (), (
            f"{name} follows the validation loss of a long run and means nothing in a short trial: "
            "the schedule of the settings is used instead."
        )
    if options.get("interval") == "epoch" and per_epoch is None:
        return (
            (),
            f"{name} steps once per epoch, and the loader has no length: the schedule of the settings is used.",
        )
    every = max(1.0, per_epoch or 1.0) if options.get("interval") == "epoch" else 1.0
    every *= options.get("frequency", 1)
    main = max(optimizer.param_groups, key=_count)
    base = float(main.get("initial_lr", main["lr"]))
    if base == 0:
        return (), f"{name}: the base rate is 0, the schedule of the settings is used."
    points = min(steps, _TABLE_POINTS)
    table: list[float] = []
    done, note = 0, ""
    optimizer._opt_called = True  # type: ignore[attr-defined]  # what torch's own step() sets: no step is left out
    for point in range(points):
        due = math.floor(point * steps / points / every + 1e-9)
        while done < due and not note:
            try:
                scheduler.step()
            except Exception as error:  # e.g. OneCycleLR past its own end
                note = f"{name} ends after {done} of {round(steps / every)} steps ({error}): its last rate is held."
            done += 1
        table.append(float(main["lr"]) / base)
    return tuple(table), note


def _is_scheduler(value: Any, *, lists: bool) -> bool:
    if isinstance(value, (list, tuple)):
        return lists
    if isinstance(value, Optimizer) or (isinstance(value, Mapping) and "optimizer" in value):
        return False
    return value is None or isinstance(value, Mapping) or hasattr(value, "step")


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _count(group: Mapping[str, Any]) -> int:
    return sum(p.numel() for p in group["params"])


def hyper_of(optimizer: Optimizer) -> Hyper:
    """Flat floats of the group with the most parameters; betas as beta1, beta2, ..."""
    group = max(optimizer.param_groups, key=_count)
    flat: Hyper = {}
    for key, value in group.items():
        if key in ("params", "initial_lr"):
            continue
        if key == "betas":
            flat.update({f"beta{i}": float(beta) for i, beta in enumerate(value, 1)})
        elif isinstance(value, int | float | torch.Tensor) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number):
                flat[key] = number
    return flat


def _registry_name(kind: type[Optimizer]) -> str | None:
    for name in registry.names():
        spec = registry.get(name)
        if spec.target.rpartition(":")[2] != kind.__name__:
            continue
        try:
            if registry.load_class(spec) is kind:
                return name
        except OptimizerUnavailable:
            continue
    return None
