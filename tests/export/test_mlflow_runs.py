"""Runs that MLflow's own client finds: one a trial, under one for the whole.

In processes of their own, as users have it: MLflow sets up logging, tracing and threads when it is imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from autoopt.export.exported import read
from tests.export import runs

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed"),
]

LOOK = """
import json, sys
from mlflow.tracking import MlflowClient
client = MlflowClient(tracking_uri=sys.argv[1])
experiment = client.get_experiment_by_name("autoopt").experiment_id
found = [
    {
        "name": run.info.run_name,
        "status": run.info.status,
        "seconds": (run.info.end_time - run.info.start_time) / 1000,
        "tags": run.data.tags,
        "params": run.data.params,
        "metrics": run.data.metrics,
        "curve": [[m.step, m.value] for m in client.get_metric_history(run.info.run_id, "training_loss")],
        "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
    }
    for run in client.search_runs([experiment])
]
print(json.dumps(found))
"""
TWICE = """
import sys
from autoopt.errors import RunError
from autoopt.export import export
export(sys.argv[1], mlflow=sys.argv[2])
try:
    export(sys.argv[1], mlflow=sys.argv[2])
except RunError as error:
    print(error.message)
from autoopt.export import mlflow_runs
whole = mlflow_runs._child
def half(*given):
    if given[3].spec.optimizer == "sgd":
        raise KeyboardInterrupt
    whole(*given)
mlflow_runs._child = half
try:
    export(sys.argv[1], mlflow=sys.argv[2], overwrite=True)
except KeyboardInterrupt:
    print("interrupted")
mlflow_runs._child = whole
export(sys.argv[1], mlflow=sys.argv[2], overwrite=True)
"""


def ran(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_finds_every_trial_once_also_after_refusal_interruption_and_overwriting(
    folder: Path, tmp_path: Path
) -> None:
    said = ran(TWICE, folder, tmp_path / "ml")
    assert said.splitlines() == [f"{tmp_path / 'ml'} has a run 'digits' of an earlier export.", "interrupted"]
    found: list[dict[str, Any]] = json.loads(ran(LOOK, f"sqlite:///{tmp_path / 'ml' / 'mlflow.db'}"))
    parent = next(run for run in found if "mlflow.parentRunId" not in run["tags"])
    children = {run["name"]: run for run in found if run is not parent}
    trials = {trial.title: trial for trial in read(folder).trials}
    assert set(children) == set(trials)
    assert len(found) == 1 + len(runs.results())
    assert (parent["name"], parent["status"]) == ("digits", "FINISHED")
    assert parent["files"] == ["events.jsonl", "recommendation.yaml"]
    for title, trial in trials.items():
        run = children[title]
        assert run["status"] == ("FINISHED" if trial.outcome == "completed" else "FAILED")
        assert run["tags"]["outcome"] == trial.outcome
        assert float(run["params"]["lr"]) == trial.hyper["lr"]
        assert run["metrics"].get("loss") == trial.loss
        assert run["curve"] == [list(point) for point in trial.curve]
        assert run["seconds"] == 3
