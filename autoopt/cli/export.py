"""`autoopt export`: a run for Optuna, MLflow, TensorBoard, CSV and Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from autoopt.cli.run_options import AsJson


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("export")(export)


def export(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A run's folder, or a daemon's job's; it may be running.")
    ],
    optuna: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Database for optuna-dashboard, such as sqlite:///study.db."),
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(metavar="URI", help="MLflow's tracking URI, or a folder for mlflow.db.")
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="DIR", help="TensorBoard's log folder; the run is a folder in it.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One row a trial; the curves go into FILE's -curves.")
    ] = None,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="The same as Parquet.")] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The run's name in those tools. Default: the folder's."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export of that name, or a file.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Write a run's trials for other tools, one or several."""
    from autoopt.export import export as write

    done = write(
        folder,
        optuna=optuna,
        mlflow=mlflow,
        tensorboard=tensorboard,
        csv=csv,
        parquet=parquet,
        name=name,
        overwrite=overwrite,
    )
    if as_json:
        import json

        print(json.dumps(done, ensure_ascii=False))
        return 0
    going_on = " so far; the run is going on" if done["state"] == "running" else ""
    print(f"{done['run']}: {done['trials']} trials{going_on}")
    for one in done["written"]:
        print(f"  {_told(one)}")
    return 0


def _told(one: dict[str, Any]) -> str:
    """Where it went, and how it is looked at."""
    match one["target"]:
        case "optuna":
            return f"{one['to']}: {len(one['studies'])} studies; look: optuna-dashboard {one['to']}"
        case "mlflow":
            look = f"; look: mlflow ui --backend-store-uri {one['to']}" if "://" in one["to"] else ""
            return f"{one['to']}: {one['runs']} runs under one{look}"
        case "tensorboard":
            return f"{one['to']}: {one['runs']} runs; look: tensorboard --logdir {Path(one['to']).parent}"
        case _:
            return f"{one['to']}: {one['rows']} rows; {one['curves']}: {one['points']} points"
