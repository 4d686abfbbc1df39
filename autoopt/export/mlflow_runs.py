"""A run as MLflow runs: one a trial, under one for the whole. The only file that knows MLflow."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from autoopt.errors import RunError
from autoopt.export.exported import RUNNING, Exported, Trial
from autoopt.export.target import WAY_OUT, needs
from autoopt.files import raise_unwritable
from autoopt.records import Outcome

EXPERIMENT = "autoopt"
_KEY, _WHOLE = "autoopt.export", "autoopt.whole"
"""Tags of the parent: the export's name, and whether all of it was written."""
_FILES = ("recommendation.yaml", "report.html", "train.py", "events.jsonl")
_STATUS = {Outcome.COMPLETED.value: "FINISHED", Outcome.CANCELLED.value: "KILLED", RUNNING: "RUNNING"}
_MOST = 1000
"""Metrics that MLflow takes at once."""


class MlflowRuns:
    """Runs of the experiment "autoopt" on a tracking server, or in a folder.

    Args:
        where: a tracking URI ("http://...", "sqlite:///..."), or a folder: then `mlflow.db` in it, with the artifacts
            beside it. (MLflow's own layout of plain files is refused by MLflow itself since version 3.)
        overwrite: whether an earlier export under this name gives way; MLflow keeps it among the deleted runs.
    """

    def __init__(self, where: str, *, overwrite: bool = False) -> None:
        self.where, self.overwrite = where, overwrite
        self.folder = None if "://" in where or where.startswith("databricks") else Path(where)
        self.uri = where if self.folder is None else f"sqlite:///{self.folder.absolute() / 'mlflow.db'}"

    def check(self, run: Exported) -> None:
        """MLflow is there, and no export of this name, or it may be replaced."""
        # It would report its use over the network otherwise.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        with needs("--mlflow", "mlflow"):
            import mlflow.tracking  # noqa: F401
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # each table that it makes is a line otherwise
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise RunError(f"{self.folder} is a file.", "Give a folder or a URI for --mlflow.")
        if self.folder is not None and not (self.folder / "mlflow.db").exists():
            return
        with self._client() as client:
            if not self.overwrite and any(whole for _, whole in _earlier(client, run)):
                raise RunError(f"{self.where} has a run {run.name!r} of an earlier export.", WAY_OUT)

    def write(self, run: Exported) -> dict[str, Any]:
        """All runs; when something goes wrong, those that were written are deleted."""
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise_unwritable(
                    error, self.folder, "Nothing was changed.", elsewhere="export to another place"
                )
        with self._client() as client:
            experiment = self._experiment(client)
            earlier = [parent for parent, _ in _earlier(client, run)]
            made: list[str] = []
            try:
                parent = _parent(client, experiment, run, made)
                for trial in run.trials:
                    _child(client, experiment, run, trial, parent, made)
                client.set_tag(parent, _WHOLE, "true")
            except BaseException:
                with suppress(Exception):  # the first error is the one to tell
                    _delete(client, made)
                raise
            for old in earlier:
                _delete(client, [*_children(client, experiment, old), old])
        return {
            "target": "mlflow",
            "to": self.uri,
            "experiment": EXPERIMENT,
            "parent": parent,
            "runs": len(run.trials),
        }

    def _experiment(self, client: Any) -> str:
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        place = None if self.folder is None else (self.folder.absolute() / "artifacts").as_uri()
        return str(client.create_experiment(EXPERIMENT, artifact_location=place))

    @contextmanager
    def _client(self) -> Iterator[Any]:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        try:
            yield MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        except MlflowException as error:
            reason = str(error).strip().splitlines()[0]
            raise RunError(
                f"{self.where} cannot be used: {reason}", "Check the URI or folder of --mlflow."
            ) from error
        except OSError as error:
            raise_unwritable(
                error, Path(self.where), "Nothing was added there.", elsewhere="export to another place"
            )


def _earlier(client: Any, run: Exported) -> list[tuple[str, bool]]:
    """The parents of exports under this name, and whether each was written to its end."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    found = client.search_runs([experiment.experiment_id], f"tags.`{_KEY}` = {_quoted(run.name)}")
    return [(one.info.run_id, one.data.tags.get(_WHOLE) == "true") for one in found]


def _children(client: Any, experiment: str, parent: str) -> list[str]:
    found, token = [], None
    while True:
        page = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'", page_token=token)
        found += [one.info.run_id for one in page]
        token = page.token
        if not token:
            return found


def _delete(client: Any, runs: list[str]) -> None:
    for run in reversed(runs):
        client.delete_run(run)


def _parent(client: Any, experiment: str, run: Exported, made: list[str]) -> str:
    from mlflow.entities import Param

    created = client.create_run(
        experiment,
        start_time=_milliseconds(run.started.at),
        run_name=run.name,
        tags={_KEY: run.name, "autoopt.run": run.key},
    )
    number = str(created.info.run_id)
    made.append(number)
    settings = run.report.settings
    told = {
        "target": run.started.target,
        "budget_seconds": run.started.budget_seconds,
        "policy": run.started.policy.get("name"),
        "steps": settings.steps,
        "precision": settings.precision,
        "schedule": settings.schedule,
        "seed": run.started.seed,
        "device": run.report.device,
        "parameters": run.report.parameters,
    }
    client.log_batch(number, params=[Param(key, str(value)) for key, value in told.items()])
    for name in _FILES:
        if (run.folder / name).is_file():
            client.log_artifact(number, str(run.folder / name))
    status = {"finished": "FINISHED", "failed": "FAILED", "running": "RUNNING"}.get(run.state, "KILLED")
    if status != "RUNNING":
        last = max((t.ended or 0.0 for t in run.trials), default=0.0)
        client.set_terminated(number, status, _milliseconds(run.ended or last))
    return number


def _child(client: Any, experiment: str, run: Exported, trial: Trial, parent: str, made: list[str]) -> None:
    from mlflow.entities import Metric, Param, RunTag

    spec, result = trial.spec, trial.result
    began = trial.began or trial.ended or run.started.at
    ended = trial.ended or began
    created = client.create_run(
        experiment,
        start_time=_milliseconds(began),
        run_name=trial.title,
        tags={"mlflow.parentRunId": parent},
    )
    number = str(created.info.run_id)
    made.append(number)
    params = {"optimizer": spec.optimizer, "steps": spec.steps, "seed": spec.seed, **trial.hyper}
    tags = {"outcome": trial.outcome, "stage": spec.stage, "trial": spec.id}
    if result is not None and result.message:
        tags["message"] = result.message
    client.log_batch(
        number,
        params=[Param(key, str(value)) for key, value in params.items()],
        tags=[RunTag(key, str(value)) for key, value in tags.items()],
    )
    metrics = [
        Metric("training_loss", loss, _milliseconds(began + (ended - began) * step / spec.steps), step)
        for step, loss in trial.curve
    ]
    done = result.steps_done if result is not None else 0
    metrics += [
        Metric(name, float(value), _milliseconds(ended), done) for name, value in _final(run, trial).items()
    ]
    for first in range(0, len(metrics), _MOST):
        client.log_batch(number, metrics=metrics[first : first + _MOST])
    status = _STATUS.get(trial.outcome, "FAILED")
    if status != "RUNNING":
        client.set_terminated(number, status, _milliseconds(ended))


def _final(run: Exported, trial: Trial) -> dict[str, float]:
    result, metric = trial.result, run.report.settings.metric
    told = {
        "loss": trial.loss,
        **({metric[0]: trial.metric} if metric else {}),
        "seconds": result.seconds.get("total") if result else None,
        "step_seconds": result.step_seconds if result else None,
        "samples_per_second": result.samples_per_second if result else None,
        "state_bytes": result.state_bytes if result else None,
        "peak_bytes": result.peak_bytes if result else None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _milliseconds(at: float) -> int:
    return round(at * 1000)


def _quoted(text: str) -> str:
    quote = '"' if "'" in text else "'"
    return f"{quote}{text}{quote}"
