"""`autoopt profile`: the main job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from autoopt.job import Job
    from autoopt.records import Plan, Recommendation

_BEGAN = time.time()
"""When the budget starts. Not the process's own start: a shell that runs this as its last command gives it its own."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("profile")(profile)


def profile(
    target: str = typer.Argument(..., help="Your model.py, or package.module:function."),
    arguments: list[str] = typer.Argument(
        None, help="After `--`: handed to that function, or to your file as sys.argv."
    ),
    steps: int = typer.Option(None, min=1, help="Optimizer steps of the real run."),
    epochs: float = typer.Option(None, help="Epochs of the real run, instead of --steps."),
    budget: str = typer.Option(None, help="Wall-clock for everything: 90s, 5m, 1h30m. Default: 5m."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show the plan and stop there."),
    policy: str = typer.Option(None, help="A policy's name, or a file. Default: balanced."),
    limit: str = typer.Option(
        None, help="What may be recommended: memory=20GB,step_time=0.2s (or 2x: relative to AdamW's step)."
    ),
    optimizers: str = typer.Option(None, help="Compare these only, e.g. adamw,sgd,adan."),
    device: str = typer.Option(None, help="auto, cpu, cuda:0, or several: cuda:0,cuda:1. Default: auto."),
    workers: int = typer.Option(None, min=1, help="Trials at once. Default: what cores and memory allow."),
    precision: str = typer.Option(None, help="fp32, bf16 or fp16."),
    accumulate: int = typer.Option(None, min=1, help="Batches per optimizer step."),
    clip: float = typer.Option(None, help="Maximum norm of the gradient."),
    schedule: str = typer.Option(None, help="cosine, linear, constant or wsd."),
    warmup: float = typer.Option(None, help="Below 1: share of the run that warms up; from 1 on: its steps."),
    seed: int = typer.Option(None, help="Default: 0."),
    out: Path = typer.Option(None, help="Folder for the results. Default: autoopt-out/<name>."),
    prior: list[Path] = typer.Option(
        None, help="Folder of an earlier run, of this model or a sibling, that informs this one. Repeatable."
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run in that folder."),
    accept_changes: bool = typer.Option(
        False, "--accept-changes", help="Resume although code or settings changed."
    ),
    as_json: bool = typer.Option(False, "--json", help="Nothing but one JSON object on stdout."),
    quiet: bool = typer.Option(False, "--quiet", help="No progress; the result only."),
) -> int:
    """Choose and tune the optimizer for a model, inside a time budget."""
    from autoopt.cli.main import INTERRUPTED
    from autoopt.job import default_out, make_job
    from autoopt.records import Recommendation
    from autoopt.report import console
    from autoopt.sitting import run_job

    folder = out if out is not None else default_out(target)
    with console.observer(quiet=quiet or as_json) as observer:
        job = make_job(
            target,
            out=folder,
            resume=resume,
            budget=budget,
            policy=policy,
            limit=limit,
            flags=_flags(
                steps=steps,
                epochs=epochs,
                precision=precision,
                accumulate=accumulate,
                clip=clip,
                schedule=schedule,
                warmup=warmup,
            ),
            arguments=arguments or [],
            optimizers=[name.strip() for name in optimizers.split(",") if name.strip()]
            if optimizers
            else None,
            seed=seed,
            device=device,
            workers=workers,
            accept_changes=accept_changes,
            prior=list(prior or []),
            dry_run=dry_run,
            began=_BEGAN,
            observer=observer,
        )
        found = run_job(job)
    if as_json:
        print(_json(found, job))
    elif isinstance(found, Recommendation):
        console.show(found, folder)
    elif quiet:
        console.show_plan(found)
    return INTERRUPTED if isinstance(found, Recommendation) and not found.complete else 0


def _flags(**given: Any) -> Any:
    """Flags, with a clear word about the one that does not fit."""
    from pydantic import ValidationError

    from autoopt.errors import UsageError
    from autoopt.records import Flags

    if given["steps"] is not None and given["epochs"] is not None:
        raise UsageError("--steps and --epochs say the same thing twice.", "Give one of them.")
    try:
        return Flags(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = first["loc"][0]
        raise UsageError(
            f"--{name} {given[str(name)]} cannot be used: {first['msg']}.", "See autoopt profile --help."
        ) from None


def _json(found: Recommendation | Plan, job: Job) -> str:
    import json

    from autoopt.files import plain

    return json.dumps({**plain(found), "folder": str(job.out)}, ensure_ascii=False, allow_nan=False)
