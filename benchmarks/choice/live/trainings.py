"""Trainings that a trial is not: one that is validated on the way, and a sweep over learning rates."""

from __future__ import annotations

import math
from collections.abc import Iterator

from autoopt import options
from autoopt.optim import build, groups, registry
from autoopt.optim.spec import Need
from autoopt.schedule import multiplier, warmup_steps
from autoopt.training import set_mode, train
from autoopt.workload import Workload
from benchmarks.choice.live import finder
from benchmarks.choice.live.nouns import Ended, Seen, Task


def watched(workload: Workload, task: Task) -> Iterator[Seen | Ended | None]:
    """As the product trains an optimizer of its registry, with the validation loss at `points` places of the way.

    Yields None after a step, `Seen` at a point, and `Ended` last. It ends early only when the loss is no number.
    """
    model = workload.start(task.seed, task.steps)
    spec = registry.get(task.pick.optimizer)
    optimizer = build.build(spec, groups.split(model), options.own(task.pick.hyper))
    settings = options.applied(task.pick.hyper, workload.settings)
    kind = "constant" if Need.OWN_SCHEDULE in spec.needs else settings.schedule
    warm = warmup_steps(settings.warmup, task.steps)
    cuts = {max(1, round(task.steps * i / task.points)): i for i in range(1, task.points + 1)}
    steps = train(
        model,
        workload,
        optimizer,
        workload.batches(task.seed),
        steps=task.steps,
        multiplier=lambda step: multiplier(kind, step, task.steps, warm),
        settings=settings,
    )
    loss = math.inf
    for report in steps:
        point = cuts.get(report.step)
        if point is not None:
            set_mode(optimizer, training=False)
            loss = workload.evaluate(model).loss
            set_mode(optimizer, training=True)
        if not math.isfinite(report.loss) or (point is not None and not math.isfinite(loss)):
            yield Ended(None, "diverged")
            return
        yield None if point is None else Seen(point, loss)
    yield Ended(loss, "completed")


def sweep(workload: Workload, task: Task) -> Iterator[Ended | None]:
    """AdamW's default with a rate that grows from step to step; `extra` of the end is the rate to take, or empty."""
    model = workload.start(task.seed, task.steps)
    optimizer = workload.baseline(model).optimizer
    base = optimizer.param_groups[0]["lr"]
    rates = finder.rates(task.steps)
    losses = finder.Smoothed()
    steps = train(
        model,
        workload,
        optimizer,
        workload.batches(task.seed),
        steps=task.steps,
        multiplier=lambda step: rates[step] / base,
    )
    for report in steps:
        losses.add(report.loss)
        if losses.exploded:
            break
        yield None
    found = finder.suggest(rates, losses.values, task.steps)
    yield Ended(None, "completed", () if found is None else (found,))
