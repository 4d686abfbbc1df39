"""`autoopt profile`: the main job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoopt.cli.run_options import (
    Accumulate,
    Arguments,
    AsJson,
    Budget,
    Clip,
    ClusterAt,
    CpusPerTrial,
    DeviceName,
    Epochs,
    GlobalBatch,
    GpusPerTrial,
    Limit,
    Name,
    Nproc,
    Optimizers,
    PolicyName,
    Precision,
    Schedule,
    Seed,
    Ship,
    Steps,
    Target,
    Warmup,
    Workers,
    cluster_of,
    flags,
    names,
)

if TYPE_CHECKING:
    from autoopt.job import Job
    from autoopt.records import Plan, Recommendation

_BEGAN = time.time()
"""When the budget starts. Not the process's own start: a shell that runs this as its last command gives it its own."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("profile")(profile)


def profile(
    target: Target,
    arguments: Arguments = None,
    steps: Steps = None,
    epochs: Epochs = None,
    budget: Budget = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop there.")] = False,
    policy: PolicyName = None,
    limit: Limit = None,
    optimizers: Optimizers = None,
    device: DeviceName = None,
    workers: Workers = None,
    nproc: Nproc = None,
    cluster: ClusterAt = None,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
    ship: Ship = None,
    precision: Precision = None,
    accumulate: Accumulate = None,
    global_batch: GlobalBatch = None,
    clip: Clip = None,
    schedule: Schedule = None,
    warmup: Warmup = None,
    seed: Seed = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the results. Default: autoopt-out/<name>."),
    ] = None,
    name: Name = None,
    prior: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Folder of an earlier run, of this model or a sibling, that informs this one. Repeatable.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A half-trained net: keep its optimizer, or change now? --steps is the whole run.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder.")] = False,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Resume although code or settings changed.")
    ] = False,
    daemon: Annotated[
        bool, typer.Option("--daemon", help="Have the daemon run it (autoopt serve), and follow it here.")
    ] = False,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress; the result only.")] = False,
) -> int:
    """Choose and tune a model's optimizer, inside a time budget."""
    from autoopt.cli.main import INTERRUPTED
    from autoopt.errors import UsageError
    from autoopt.job import default_out, make_job
    from autoopt.records import Recommendation
    from autoopt.report import console
    from autoopt.sitting import run_job

    given = flags(
        steps=steps,
        epochs=epochs,
        precision=precision,
        accumulate=accumulate,
        global_batch=global_batch,
        clip=clip,
        schedule=schedule,
        warmup=warmup,
        nproc=nproc,
        checkpoint=None if checkpoint is None else str(checkpoint),
    )
    if daemon:
        if (nproc or 1) > 1:
            raise UsageError(
                f"--nproc {nproc} is not for the daemon, which leases one device to a job.",
                "Leave out --daemon, or --nproc.",
            )
        _refuse(
            cluster=cluster,
            checkpoint=checkpoint,
            out=out,
            resume=resume,
            accept_changes=accept_changes,
            dry_run=dry_run,
        )
        from autoopt.cli.following import run_there

        return run_there(
            target,
            arguments or [],
            {
                **given.model_dump(exclude={"checkpoint", "nproc"}),
                "budget": budget,
                "policy": policy,
                "limit": limit,
                "optimizers": names(optimizers),
                "device": device,
                "workers": workers,
                "ship": None if ship is None else str(ship),
                "seed": seed,
                "prior": [str(path) for path in prior or []],
            },
            name=name,
            as_json=as_json,
            quiet=quiet,
        )
    folder = out if out is not None else default_out(target)
    with console.observer(quiet=quiet or as_json) as observer:
        job = make_job(
            target,
            out=folder,
            resume=resume,
            budget=budget,
            policy=policy,
            limit=limit,
            flags=given,
            arguments=arguments or [],
            optimizers=names(optimizers),
            seed=seed,
            device=device,
            workers=workers,
            name=name,
            cluster=cluster_of(cluster, cpus_per_trial, gpus_per_trial, ship),
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


def _refuse(**given: object) -> None:
    """What has no meaning for a run in the daemon's own folder."""
    from autoopt.errors import UsageError

    for name, value in given.items():
        if value:
            raise UsageError(
                f"--{name.replace('_', '-')} is not for a run of the daemon, which keeps its own folder.",
                "Leave it out; or leave out --daemon.",
            )


def _json(found: Recommendation | Plan, job: Job) -> str:
    import json

    from autoopt.files import plain

    return json.dumps({**plain(found), "folder": str(job.out)}, ensure_ascii=False, allow_nan=False)
