"""`autoopt submit`: hands a model to the daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from autoopt.cli.daemon_options import Socket, connect
from autoopt.cli.run_options import (
    Accumulate,
    Arguments,
    AsJson,
    Budget,
    Clip,
    Epochs,
    GlobalBatch,
    Limit,
    Name,
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
    flags,
    names,
)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("submit")(submit)


def submit(
    target: Target,
    arguments: Arguments = None,
    steps: Steps = None,
    epochs: Epochs = None,
    budget: Budget = None,
    policy: PolicyName = None,
    limit: Limit = None,
    optimizers: Optimizers = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="auto, cpu, cuda:0, cuda:0,cuda:1; of a daemon with a cluster also cluster[:cpu|:cuda].",
        ),
    ] = None,
    workers: Workers = None,
    precision: Precision = None,
    accumulate: Accumulate = None,
    global_batch: GlobalBatch = None,
    clip: Clip = None,
    schedule: Schedule = None,
    warmup: Warmup = None,
    seed: Seed = None,
    prior: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Folder of an earlier run that informs this one. Repeatable."),
    ] = None,
    priority: Annotated[
        int, typer.Option(min=-100, max=100, metavar="N", help="Higher ones start first.")
    ] = 0,
    cores: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of a job on the CPU. Default: all.")
    ] = None,
    ship: Ship = None,
    name: Name = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="A submit that is repeated with the same key stays one job."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Name of a further variable of this shell that the job needs. Repeatable."
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The project's folder, for a daemon at AUTOOPT_URL. Default: the file's folder.",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it, and end as `profile` would.")] = False,
    socket: Socket = None,
    as_json: AsJson = False,
) -> int:
    """Submit a model to the daemon (autoopt serve).

    It is on the daemon's disk when this prints its id. `autoopt watch ID` follows it.
    """
    from autoopt.cli.following import follow

    given = flags(
        steps=steps,
        epochs=epochs,
        precision=precision,
        accumulate=accumulate,
        global_batch=global_batch,
        clip=clip,
        schedule=schedule,
        warmup=warmup,
    )
    options = {
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
    }
    with connect(socket) as client:
        job = client.submit(
            target,
            arguments=arguments or [],
            options=options,
            priority=priority,
            cores=cores,
            name=name,
            key=key,
            environment=env or [],
            bundle=bundle,
        )
        if wait:
            return follow(client, job.id, as_json=as_json)
    if as_json:
        print(json.dumps({"id": job.id}))
    else:
        print(job.id)
    return 0
