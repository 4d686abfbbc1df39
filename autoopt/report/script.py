"""The recommendation as a whole training script: train.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from autoopt import options
from autoopt.errors import UsageError
from autoopt.records import BASELINE, Recommendation
from autoopt.report.snippets.facts import (
    call_arguments,
    goes_on,
    keeps_groups,
    keeps_optimizer,
    keeps_schedule,
    rate,
    samples,
    schedule_of,
    second_order,
    settings_of,
    table_name,
    target_arguments,
)
from autoopt.report.templating import code


def script(rec: Recommendation, folder: str | Path, target: str | None = None) -> str:
    """The text of train.py: a whole training script, to be run and edited by the user.

    Args:
        rec: the recommendation.
        folder: where the script will lie; it finds the user's file relative to itself.
        target: the user's file or `package.module:function`; by default what was profiled.

    Raises:
        UsageError: what was profiled is no file, but callables of a running program.
    """
    if rec.workload.kind == "callables":
        raise UsageError(
            "What was passed to choose() lives in your program, so there is no file for a script to import.",
            "Use recommendation.build(model) there.",
        )
    choice = rec.recommendation
    class_name = choice.class_.partition(":")[2]
    return code("train.py.j2").render(
        rec=rec,
        choice=choice,
        imports=_imports(rec),
        class_name=class_name,
        arguments=call_arguments(choice),
        target=target_from(target or rec.workload.target, Path(folder)),
        is_file=":" not in Path(target or rec.workload.target).name,
        project=os.path.relpath(Path.cwd(), Path(folder).resolve()),
        target_arguments=target_arguments(rec),
        own_optimizer=keeps_optimizer(rec),
        own_groups=keeps_groups(rec),
        own_schedule=keeps_schedule(rec),
        schedule=schedule_of(rec),
        second_order=second_order(rec),
        lightning=rec.workload.kind == "lightning",
        threads=rec.workload.threads if rec.workload.device == "cpu" else None,
        yours=rec.workload.baseline.source == "configure_optimizers",
        rate=rate(rec),
        warmup=choice.warmup_steps / choice.steps,
        next_choice=next_choice(rec),
        clip=settings_of(rec).clip,
        accumulate=settings_of(rec).accumulate,
        times=options.multiple(choice.hyper),
        batch_name=table_name(rec),
        samples=samples(rec),
        ranks=rec.workload.processes,
        **_checkpoint(rec, folder),
    )


def _checkpoint(rec: Recommendation, folder: str | Path) -> dict[str, Any]:
    """Where a half-trained net lies, from `folder`, and what was trained of it."""
    given = rec.provenance.get("checkpoint")
    if rec.workload.checkpoint is None or given is None:
        return {"checkpoint": None, "done": 0, "goes_on": False}
    place = os.path.relpath(Path(str(given)).resolve(), Path(folder).resolve())
    return {"checkpoint": place, "done": rec.workload.checkpoint.step, "goes_on": goes_on(rec)}


def _imports(rec: Recommendation) -> dict[str, list[str]]:
    """Import lines of train.py that depend on the recommendation, in the order that isort keeps."""
    outside = {"torch": ["nn"]}
    fits = rec.workload.kind == "lightning"
    ours = {
        "autoopt.errors": ["AutooptError"],
        "autoopt.records": ["Band", "Flags"] if rec.promise else ["Flags"],
        "autoopt.training": ["second_order", "set_mode"] if second_order(rec) and not fits else ["set_mode"],
        "autoopt.workload": ["Workload", "load"],
    }
    if fits:
        ours["autoopt.trials.lightning"] = ["train as fit"]
    if samples(rec):
        ours["autoopt.batch"] = ["mismatch"]
        ours["autoopt.workload.data"] = ["samples"]
    if rec.workload.processes > 1:
        ours["autoopt.workload.parallel"] = ["parallel_of"]
    if rec.promise:
        ours["autoopt.watch"] = ["Watch"]
    if not keeps_schedule(rec):
        ours["autoopt.schedule"] = ["multiplier", "warmup_steps"]
    if not keeps_optimizer(rec):
        ours["autoopt.optim.groups"] = ["as_param_groups", "split"]
        module, _, name = rec.recommendation.class_.partition(":")
        (ours if module.startswith("autoopt.") else outside).setdefault(module, []).append(name)
    return {
        place: [f"from {module} import {', '.join(names)}" for module, names in sorted(lines.items())]
        for place, lines in (("outside", outside), ("autoopt", ours))
    }


def next_choice(rec: Recommendation) -> str:
    """What to try if the recommendation diverges in the real run: the best other one, or half the rate."""
    chosen = rec.recommendation.optimizer
    for row in rec.optimizers:
        if (
            row.optimizer not in (chosen, BASELINE)
            and row.status in ("tie", "worse", "undecided")
            and row.hyper
        ):
            values = ", ".join(f"{key}={value:.3g}" for key, value in row.hyper.items())
            return f"{row.optimizer} ({values}), or half the learning rate"
    return "half the learning rate"


def target_from(target: str, folder: Path) -> str:
    """A file's path from `folder`; an import string as it is."""
    if ":" in Path(target).name:
        return target
    return os.path.relpath(Path(target).resolve(), folder.resolve())
