"""From a run's folder to everything that was asked for: first all is checked, then all is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoopt.errors import UsageError
from autoopt.export.exported import Exported
from autoopt.export.exported import read as read_run
from autoopt.export.target import Target


def export(
    folder: str | Path,
    *,
    optuna: str | None = None,
    mlflow: str | None = None,
    tensorboard: str | Path | None = None,
    csv: str | Path | None = None,
    parquet: str | Path | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes the trials of a run for other tools; the run may be going on, or have been stopped.

    Args:
        folder: a run's folder, or a folder of a daemon's job.
        optuna: a database for optuna-dashboard: "sqlite:///study.db", "study.db" or another URL of SQLAlchemy.
        mlflow: a tracking server's URI, or a folder in which the trials go into `mlflow.db`.
        tensorboard: a log folder; the run is a folder in it.
        csv: a file of one row a trial; the curves go beside it, into `<stem>-curves.csv`.
        parquet: the same as Parquet.
        name: of the run in these tools; the folder's name unless given.
        overwrite: whether an earlier export of that name, or a file, gives way.

    Returns:
        {"run", "folder", "state", "trials", "written": [{"target", "to", ...}]}.

    Raises:
        UsageError: no target is given, or the package of one is not installed.
        RunError: no run there, something is in the way, or a target cannot be written to.
    """
    given: list[Target] = []
    # Imported one by one: whoever wants a CSV file needs no Optuna.
    if csv is not None:
        from autoopt.export.csv_file import CsvFile

        given.append(CsvFile(Path(csv), overwrite=overwrite))
    if parquet is not None:
        from autoopt.export.parquet_file import ParquetFile

        given.append(ParquetFile(Path(parquet), overwrite=overwrite))
    if optuna is not None:
        from autoopt.export.optuna_database import OptunaDatabase

        given.append(OptunaDatabase(optuna, overwrite=overwrite))
    if tensorboard is not None:
        from autoopt.export.tensorboard_logs import TensorboardLogs

        given.append(TensorboardLogs(Path(tensorboard), overwrite=overwrite))
    if mlflow is not None:
        from autoopt.export.mlflow_runs import MlflowRuns

        given.append(MlflowRuns(mlflow, overwrite=overwrite))
    if not given:
        raise UsageError(
            "Nothing says where to export to.",
            "Give one or more of --optuna, --mlflow, --tensorboard, --csv and --parquet.",
        )
    run = read_run(Path(folder), name)
    return _written(run, given)


def _written(run: Exported, given: list[Target]) -> dict[str, Any]:
    for target in given:
        target.check(run)
    return {
        "run": run.name,
        "folder": str(run.folder),
        "state": run.state,
        "trials": len(run.trials),
        "written": [target.write(run) for target in given],
    }
