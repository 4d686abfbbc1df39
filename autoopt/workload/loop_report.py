"""The WorkloadReport of a loop of the user's own: from short runs of it in which every rate is 0.

Nothing is trained then, so the value that it returns is the one before training, and two runs with one seed and two
optimizers see the same losses if the seed decides all else.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn

from autoopt.errors import WorkloadError
from autoopt.optim import groups, registry
from autoopt.optim.spec import Need
from autoopt.records import BASELINE, Baseline, GroupRecord, WorkloadReport
from autoopt.workload.maker import Maker, Told
from autoopt.workload.own_loop import OwnLoop
from autoopt.workload.report import digests_of, versions

_SEED = 0
_STEPS = 6
_QUICK = 2


@dataclass(frozen=True)
class _Still:
    """A run that trained nothing."""

    maker: Maker
    told: list[Told]
    value: float
    seconds: float


def make(loop: OwnLoop, *, quick: bool) -> WorkloadReport:
    """Runs the user's loop once (`quick`) or twice without training.

    Raises:
        WorkloadError: it does not do what the contract says.
    """
    steps = min(loop.settings.steps, _QUICK if quick else _STEPS)
    first = _still(loop, BASELINE, steps)
    if not math.isfinite(first.value):
        raise WorkloadError(
            f"{loop.where} returned {first.value} before any training.",
            "What it returns must be a finite number where nothing has gone wrong.",
        )
    second = None if quick else _still(loop, "adamw", steps)
    repeats = second is not None and [t.loss for t in second.told] == [t.loss for t in first.told]
    timed = second or first
    step = statistics.median([t.seconds for t in timed.told[1:]] or [timed.told[0].seconds])
    made = first.maker.made
    parameters = {id(p): p for one in made for group in one.groups for p in group.params}
    modules = [one.given for one in made if isinstance(one.given, nn.Module)]
    everything = {id(p): p for module in modules for p in module.parameters()} | parameters
    user = made[0].user
    assert user is not None  # the first run was the baseline's
    device = str(next(iter(parameters.values())).device)
    return WorkloadReport(
        target=loop.target,
        kind="own loop",
        settings=loop.settings,
        baseline=user.record(),
        device=device,
        parameters=sum(p.numel() for p in everything.values()),
        trainable=sum(p.numel() for p in parameters.values()),
        dtypes=dict(_dtypes(list(everything.values()))),
        layers=dict(
            Counter(type(m).__name__ for module in modules for m in module.modules() if not any(m.children()))
        ),
        groups=_groups(first.maker),
        batch="drawn by your run()",
        samples_per_batch=None,
        batches_per_epoch=None,
        validation="own",
        validation_batches=1,
        first_loss=_shown(first.told[0].loss),
        initial_loss=first.value if loop.by_loss else _shown(first.told[0].loss),
        restore="rebuilt",
        reproducible_data=repeats,
        pairing="yours" if loop.paired else "none",
        unavailable=_unavailable(loop, first.maker),
        warnings=_notes(loop, user.record(), repeats=repeats or quick),
        modules=digests_of(loop.project),
        seconds={"calibrate": round(first.seconds + (second.seconds if second else 0.0), 6)},
        step_seconds=max(step, 1e-9),
        data_seconds=0.0,
        # All that a trial does beside its steps: building, and measuring what it returns.
        eval_batch_seconds=max(0.0, timed.seconds - step * steps),
        threads=torch.get_num_threads(),
        versions=versions(),
    )


def _still(loop: OwnLoop, optimizer: str, steps: int) -> _Still:
    told: list[Told] = []
    hyper = {} if optimizer == BASELINE else {"lr": registry.get(optimizer).start()["lr"]}
    maker = loop.maker(optimizer, hyper, steps, still=True, tell=told.append)
    begin = time.perf_counter()
    value = loop.train(maker, _SEED)
    return _Still(maker, told, value, time.perf_counter() - begin)


def _shown(loss: float) -> float:
    """A loss for the report; what is not finite says nothing, and trials will tell."""
    return loss if math.isfinite(loss) else 0.0


def _dtypes(parameters: list[torch.Tensor]) -> Counter[str]:
    found: Counter[str] = Counter()
    for parameter in parameters:
        found[str(parameter.dtype).removeprefix("torch.")] += parameter.numel()
    return found


def _groups(maker: Maker) -> list[GroupRecord]:
    """Of all optimizers, each one's under its number where there are several."""
    found = []
    for number, one in enumerate(maker.made, 1):
        name = type(one.given).__name__ if isinstance(one.given, nn.Module) else "parameters"
        for record in groups.records(one.groups):
            label = f"{number}. {name}: {record.label}" if len(maker.made) > 1 else record.label
            found.append(record.model_copy(update={"label": label}))
    return found


def _unavailable(loop: OwnLoop, maker: Maker) -> dict[str, str]:
    """Optimizer -> why it cannot serve a loop that is not ours."""
    parts = [one.groups for one in maker.made]
    found = {}
    for name in registry.names():
        spec = registry.get(name)
        needs = spec.needs
        if missing := registry.why_unavailable(spec):
            found[name] = missing
        elif needs & {Need.SECOND_ORDER, Need.CLOSURE} and not loop.closure:
            found[name] = (
                "it needs a closure: call step(closure) in run(), and say so (CLOSURE = True, closure=True)"
            )
        elif Need.TRAIN_EVAL_MODE in needs:
            found[name] = (
                "its weights for training and for evaluation differ, and only run() knows when it evaluates"
            )
        elif Need.MATRICES_ONLY in needs and not all(any(g.matrices for g in part) for part in parts):
            known = all(isinstance(one.given, nn.Module) for one in maker.made)
            found[name] = (
                "it takes hidden matrices, and not every model that make_optimizer() was given has one"
                if known
                else "it takes hidden matrices, which are known where make_optimizer() is given a module"
            )
        elif Need.ONE_RATE in needs and any(len({g.lr_scale for g in part}) > 1 for part in parts):
            found[name] = "it takes one learning rate for all parameters, and your groups have several"
    return found


def _notes(loop: OwnLoop, own: Baseline, *, repeats: bool) -> list[str]:
    notes = [
        "the training loop is yours: so are the pairing of trials and the timing of steps, all that happens between two "
        "reports included"
    ]
    if loop.paired and not repeats:
        notes.append(
            "you say that trials of one seed are paired, yet two runs with one seed and nothing trained reported other "
            "losses: draw weights and data from `seed`"
        )
    elif not loop.paired and repeats:
        notes.append(
            "two runs with one seed reported the same losses: if your data depends on `seed` alone, say so (PAIRED = True, "
            "paired=True), and small differences can be seen"
        )
    if own.source == "default":
        notes.append("no configure_optimizers was given, so what is compared with is AdamW at its default")
    return notes
