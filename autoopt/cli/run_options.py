"""The options of a run, declared once for the commands that start one: `profile` and `submit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from autoopt.records import Cluster

Target = Annotated[str, typer.Argument(metavar="TARGET", help="Your model.py, or package.module:function.")]
Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ARGUMENTS", help="After `--`: handed to that function, or to your file as sys.argv."
    ),
]
Steps = Annotated[int | None, typer.Option(min=1, metavar="N", help="Optimizer steps of the real run.")]
Epochs = Annotated[
    float | None, typer.Option(metavar="N", help="Epochs of the real run, instead of --steps.")
]
Budget = Annotated[
    str | None, typer.Option(metavar="TIME", help="Wall-clock for everything: 90s, 5m, 1h30m. Default: 5m.")
]
PolicyName = Annotated[
    str | None, typer.Option(metavar="NAME", help="A policy's name, or a file. Default: balanced.")
]
Limit = Annotated[
    str | None,
    typer.Option(
        metavar="LIMITS",
        help="What may be recommended: memory=20GB,step_time=0.2s (or 2x: relative to AdamW's step).",
    ),
]
Optimizers = Annotated[
    str | None, typer.Option(metavar="NAMES", help="Compare these only, e.g. adamw,sgd,adan.")
]
DeviceName = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="auto, cpu, cuda:0, or several: cuda:0,cuda:1. Default: auto."),
]
Workers = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Trials at once. Default: what cores and memory allow.")
]
Nproc = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Processes that train each model together, a device each, as under torchrun. Default: 1.",
    ),
]
ClusterAt = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Run the trials on a Ray cluster: auto, HOST:PORT, ray://HOST:PORT.",
    ),
]
CpusPerTrial = Annotated[
    float | None, typer.Option(metavar="N", help="Cores of a trial on the cluster. Default: 1.")
]
GpusPerTrial = Annotated[
    float | None,
    typer.Option(
        metavar="N", help="GPUs of a trial on the cluster, e.g. 0.5. Default: 1 where there are any."
    ),
]
Ship = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder that the cluster's machines get. Default: that of your file."),
]
Precision = Annotated[str | None, typer.Option(metavar="KIND", help="fp32, bf16 or fp16.")]
Accumulate = Annotated[int | None, typer.Option(min=1, metavar="N", help="Batches per optimizer step.")]
GlobalBatch = Annotated[
    int | None,
    typer.Option(
        "--global-batch",
        min=1,
        metavar="N",
        help="Samples per optimizer step over all processes (WORLD_SIZE), instead of --accumulate.",
    ),
]
Clip = Annotated[float | None, typer.Option(metavar="NORM", help="Maximum norm of the gradient.")]
Schedule = Annotated[str | None, typer.Option(metavar="KIND", help="cosine, linear, constant or wsd.")]
Warmup = Annotated[
    float | None,
    typer.Option(metavar="N", help="Below 1: share of the run that warms up; from 1 on: its steps."),
]
Name = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="What lists and the report call it. Default: its folder's name, or its file's."
    ),
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Of weights and data in the trials. Default: 0.")]
AsJson = Annotated[bool, typer.Option("--json", help="Nothing but one JSON object on stdout.")]


def flags(**given: Any) -> Any:
    """The `Flags` of what was given, with a clear word about the one that does not fit.

    Raises:
        UsageError: a value that cannot be used, --steps and --epochs both, or --accumulate and --global-batch both.
    """
    from pydantic import ValidationError

    from autoopt.errors import UsageError
    from autoopt.records import Flags

    for one, other in (("steps", "epochs"), ("accumulate", "global_batch")):
        if given[one] is not None and given[other] is not None:
            names = f"--{one} and --{other.replace('_', '-')}"
            raise UsageError(f"{names} say the same thing twice.", "Give one of them.")
    try:
        return Flags(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = first["loc"][0]
        raise UsageError(
            f"--{name} {given[str(name)]} cannot be used: {first['msg']}.", "See autoopt profile --help."
        ) from None


def cluster_of(
    address: str | None, cpus: float | None, gpus: float | None, ship: Path | None
) -> Cluster | None:
    """The cluster that was named; `None` for this machine.

    Raises:
        UsageError: what is meant for a cluster was given, and none was named; or a value that cannot be used.
    """
    from pydantic import ValidationError

    from autoopt.errors import UsageError
    from autoopt.records import Cluster

    if address is None:
        for name, value in (("cpus-per-trial", cpus), ("gpus-per-trial", gpus), ("ship", ship)):
            if value is not None:
                raise UsageError(
                    f"--{name} is for a cluster, and there is no --cluster.", "Add --cluster auto."
                )
        return None
    if ship is not None and not ship.is_dir():
        raise UsageError(
            f"--ship {ship} is no folder.", "Give the folder that your file and its data are in."
        )
    try:
        return Cluster(address=address, cpus=cpus, gpus=gpus, ship=str(ship) if ship else None)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"--{first['loc'][0]}-per-trial cannot be used: {first['msg']}.", "") from None


def names(text: str | None) -> list[str] | None:
    """The parts of a list with commas; `None` when there is none."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else None
