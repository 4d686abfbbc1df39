"""What `Recommendation.load/save/build/snippet` do. Imports torch only to build."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.batch import BatchWarning, mismatch
from autoopt.errors import UsageError
from autoopt.records import BASELINE, Recommendation
from autoopt.report import cell, recipe, snippets
from autoopt.report.snippets import facts
from autoopt.schedule import multiplier

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

    from autoopt.workload.baseline import UserOptimizer

load: Callable[[str | Path], Recommendation] = recipe.load
save: Callable[[Recommendation, str | Path], None] = recipe.save
html: Callable[[Recommendation], str] = cell.html


def snippet(rec: Recommendation, kind: str = "plain") -> str:
    """The lines to paste into a project of a kind; `UsageError` where there is no such kind."""
    return snippets.snippet(rec, kind).text


_OWN: dict[int, Callable[[nn.Module], UserOptimizer]] = {}
"""What makes the user's own optimizer, of recommendations whose objects live in this process."""


def remember(rec: Recommendation, own: Callable[[nn.Module], UserOptimizer]) -> None:
    """Lets `build` make the user's own optimizer for `rec`, as long as this very object lives."""
    _OWN[id(rec)] = own
    weakref.finalize(rec, _OWN.pop, id(rec), None)


def remembers(rec: Recommendation) -> bool:
    """Whether `build` knows the user's own optimizer without loading a file."""
    return id(rec) in _OWN


def build(
    rec: Recommendation,
    model: nn.Module,
    yours: UserOptimizer | None = None,
    *,
    effective_batch: int | None = None,
) -> tuple[Optimizer, LambdaLR]:
    """The recommended optimizer over `model`, and its schedule.

    The scheduler multiplies each group's rate by the schedule of `recommendation.steps` steps; its `step()`
    is called after each optimizer step. Where the recommendation keeps something of the user's own (the
    optimizer itself, its parameter groups, its schedule), their `configure_optimizers` is called on `model`.
    Clipping and accumulation are neither's: where `recommendation.hyper` has "clip", gradients are clipped to that norm
    before each step, and `recommendation.effective_batch` says how many batches a step takes.

    Args:
        rec: as made or loaded.
        model: any model with the structure that was profiled; on its device already. For a loop of the user's own also
            what its `make_optimizer` takes: parameters, or groups of them.
        yours: the user's own optimizer over `model`, where it does not come from the file that was profiled.
        effective_batch: samples that an optimizer step of the run sees, over all processes. Where the rate was chosen for
            another number, a `BatchWarning` says so and with which rate to begin; what is built stays as recommended.

    Raises:
        UsageError: a half-trained net goes on as it is; or something of the user's own is kept, and there is no file to
            get it from.
        WorkloadError: the user's file cannot be loaded any more.
    """
    from torch.optim.lr_scheduler import LambdaLR

    choice = rec.recommendation
    if facts.goes_on(rec):
        raise UsageError(
            "The answer is to keep what you have, so there is no optimizer to build.",
            "Go on with your own, its state and its schedule.",
        )
    if effective_batch is not None and (said := other_batch(rec, effective_batch)):
        warnings.warn(said, BatchWarning, stacklevel=3)
    own_optimizer, own_groups = facts.keeps_optimizer(rec), facts.keeps_groups(rec)
    if not (own_optimizer or own_groups or facts.keeps_schedule(rec)):
        yours = None
    elif yours is None:
        yours = _yours(rec, model)
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


def other_batch(rec: Recommendation, samples: int) -> str:
    """What to know for training with so many samples a step; empty where the rate was chosen for them."""
    return mismatch(facts.table_name(rec), facts.rate(rec), facts.samples(rec), samples)


def _from_table(rec: Recommendation, model: nn.Module, user: Optimizer | None) -> Optimizer:
    from autoopt.optim import build, groups, registry
    from autoopt.optim.loose import groups_of

    choice = rec.recommendation
    # The recommendation's own class and arguments hold, also where a later version has other defaults.
    spec = replace(
        registry.get(choice.optimizer), target=choice.class_, defaults=facts.call_arguments(choice)
    )
    parts = (
        groups_of(model, no_decay=choice.no_decay)
        if rec.workload.kind == "own loop"
        else groups.split(model, no_decay=choice.no_decay, user=user)
    )
    return build.build(spec, parts, {})


def _yours(rec: Recommendation, model: nn.Module) -> Any:
    if rec.workload.baseline.source == "default":
        if rec.workload.kind == "own loop":
            from autoopt.optim.loose import groups_of
            from autoopt.workload.baseline import default_over

            return default_over([p for group in groups_of(model) for p in group.params])
        from autoopt.workload.baseline import default

        return default(model)
    if (own := _OWN.get(id(rec))) is not None:
        return own(model)
    if facts.in_program(rec):
        raise UsageError(
            "The recommendation keeps parts of your own optimizer, which only your program can build.",
            "Build with the object that choose() returned; or build yours as before, and take what differs from "
            "recommendation.recommendation.",
        )
    if rec.workload.kind == "own loop":
        return _of_loop(rec, model)
    from autoopt.workload import load as load_workload

    device = str(next(model.parameters()).device)
    workload = load_workload(rec.workload.target, facts.target_arguments(rec), facts.own_flags(rec), device)
    try:
        return workload.baseline(model)
    finally:
        workload.close()


def _of_loop(rec: Recommendation, given: Any) -> Any:
    """The user's own optimizer over what `make_optimizer` would be given, from the file with their loop."""
    from autoopt.workload.entry import load_any
    from autoopt.workload.own_loop import OwnLoop

    loop = load_any(rec.workload.target, facts.target_arguments(rec), facts.own_flags(rec))
    try:
        if not isinstance(loop, OwnLoop):
            raise UsageError(
                f"{rec.workload.target} has no run() any more.", "Restore the file that was profiled."
            )
        maker = loop.maker(BASELINE, {}, rec.recommendation.steps)
        for group in maker(given).param_groups:
            group["lr"] = group["initial_lr"]
        return maker.made[0].user
    finally:
        loop.close()


def _shape(rec: Recommendation, yours: Any) -> Callable[[int], float]:
    choice = rec.recommendation
    if facts.keeps_schedule(rec) and yours is not None:
        shape: Callable[[float], float] = yours.schedule
        return lambda step: shape(step / choice.steps)
    return lambda step: multiplier(facts.schedule_of(rec), step, choice.steps, choice.warmup_steps)
