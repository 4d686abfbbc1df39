"""What `Recommendation.load/save/build/snippet` do. Imports torch only to build."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.errors import UsageError
from autoopt.records import Recommendation
from autoopt.report import recipe
from autoopt.report import snippet as snippets
from autoopt.schedule import multiplier

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

    from autoopt.workload.baseline import UserOptimizer

load: Callable[[str | Path], Recommendation] = recipe.load
save: Callable[[Recommendation, str | Path], None] = recipe.save
snippet: Callable[[Recommendation], str] = snippets.snippet


_OWN: dict[int, Callable[[nn.Module], UserOptimizer]] = {}
"""What makes the user's own optimizer, of recommendations whose objects live in this process."""


def remember(rec: Recommendation, own: Callable[[nn.Module], UserOptimizer]) -> None:
    """Lets `build` make the user's own optimizer for `rec`, as long as this very object lives."""
    _OWN[id(rec)] = own
    weakref.finalize(rec, _OWN.pop, id(rec), None)


def remembers(rec: Recommendation) -> bool:
    """Whether `build` knows the user's own optimizer without loading a file."""
    return id(rec) in _OWN


def build(rec: Recommendation, model: nn.Module) -> tuple[Optimizer, LambdaLR]:
    """The recommended optimizer over `model`, and its schedule.

    The scheduler multiplies each group's rate by the schedule of `recommendation.steps` steps; its `step()`
    is called after each optimizer step. Where the recommendation keeps something of the user's own (the
    optimizer itself, its parameter groups, its schedule), their `configure_optimizers` is called on `model`.
    Clipping is neither's: where `recommendation.hyper` has "clip", gradients are clipped to that norm before each step.

    Args:
        rec: as made or loaded.
        model: any model with the structure that was profiled; on its device already.

    Raises:
        UsageError: something of the user's own is kept, and there is no file to get it from.
        WorkloadError: the user's file cannot be loaded any more.
    """
    from torch.optim.lr_scheduler import LambdaLR

    choice = rec.recommendation
    own_optimizer, own_groups = snippets.keeps_optimizer(rec), snippets.keeps_groups(rec)
    yours = _yours(rec, model) if own_optimizer or own_groups or snippets.keeps_schedule(rec) else None
    if own_optimizer and yours is not None:
        optimizer: Optimizer = yours.optimizer
        factor = choice.hyper["lr"] / yours.hyper["lr"] if "lr" in choice.hyper else 1.0
        for group in optimizer.param_groups:
            group["lr"] *= factor
    else:
        optimizer = _from_table(rec, model, yours.optimizer if own_groups and yours is not None else None)
    # A scheduler already built on this optimizer has left its mark, which would become the base rate.
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer, LambdaLR(optimizer, _shape(rec, yours))


def _from_table(rec: Recommendation, model: nn.Module, user: Optimizer | None) -> Optimizer:
    from autoopt.optim import build, groups, registry

    choice = rec.recommendation
    # The recommendation's own class and arguments hold, also where a later version has other defaults.
    spec = replace(
        registry.get(choice.optimizer), target=choice.class_, defaults=snippets.call_arguments(choice)
    )
    return build.build(spec, groups.split(model, no_decay=choice.no_decay, user=user), {})


def _yours(rec: Recommendation, model: nn.Module) -> Any:
    if rec.workload.baseline.source == "default":
        from autoopt.workload.baseline import default

        return default(model)
    if (own := _OWN.get(id(rec))) is not None:
        return own(model)
    if rec.workload.kind == "callables":
        raise UsageError(
            "The recommendation keeps parts of your own optimizer, which only your program can build.",
            "Build with the object that choose() returned; or build yours as before, and take what differs from "
            "recommendation.recommendation.",
        )
    from autoopt.workload import load as load_workload

    device = str(next(model.parameters()).device)
    workload = load_workload(rec.workload.target, snippets.target_arguments(rec), device=device)
    try:
        return workload.baseline(model)
    finally:
        workload.close()


def _shape(rec: Recommendation, yours: Any) -> Callable[[int], float]:
    choice = rec.recommendation
    if snippets.keeps_schedule(rec) and yours is not None:
        shape: Callable[[float], float] = yours.schedule
        return lambda step: shape(step / choice.steps)
    return lambda step: multiplier(snippets.schedule_of(rec), step, choice.steps, choice.warmup_steps)
