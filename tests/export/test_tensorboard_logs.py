"""Logs that TensorBoard itself reads: scalars of every trial, and the table of hyperparameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoopt.errors import RunError
from autoopt.export import export
from autoopt.export.exported import read
from tests.export import runs

pytest.importorskip("tensorboard")


def test_tensorboard_reads_scalars_and_hyperparameters(folder: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams import metadata

    export(folder, tensorboard=tmp_path / "logs")
    events = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "logs")).Reload()
    trials = {trial.title.replace(" ", "_"): trial for trial in read(folder).trials}
    assert set(events.Runs()) == {"digits", *(f"digits/{name}" for name in trials)}
    for name, trial in trials.items():
        run = f"digits/{name}"
        if trial.curve:
            points = events.Scalars(run, "training_loss")
            assert [point.step for point in points] == [step for step, _ in trial.curve]
            assert [point.value for point in points] == pytest.approx([loss for _, loss in trial.curve])
        if trial.loss is not None:
            assert events.Scalars(run, "loss")[0].value == pytest.approx(trial.loss)
        told = events.SummaryMetadata(run, metadata.SESSION_START_INFO_TAG).plugin_data.content
        start = metadata.parse_session_start_info_plugin_data(told)
        assert start.hparams["lr"].number_value == trial.hyper["lr"]
        assert start.hparams["optimizer"].string_value == trial.spec.optimizer
    told = events.SummaryMetadata("digits", metadata.EXPERIMENT_TAG).plugin_data.content
    columns = {info.name for info in metadata.parse_experiment_plugin_data(told).hparam_infos}
    assert columns >= {"optimizer", "steps", "seed", "stage", "lr", "weight_decay"}


def test_other_runs_stay_and_only_our_own_is_replaced(folder: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    (logs / "mine").mkdir(parents=True)
    export(folder, tensorboard=logs)
    (logs / "digits" / "stale").touch()
    with pytest.raises(RunError, match="is there already"):
        export(folder, tensorboard=logs)
    export(folder, tensorboard=logs, overwrite=True)
    assert not (logs / "digits" / "stale").exists()
    assert sorted(path.name for path in logs.iterdir()) == ["digits", "mine"]
    with pytest.raises(RunError, match="not written by an export"):
        export(folder, tensorboard=logs, name="mine", overwrite=True)


def test_no_torch_is_needed(folder: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    code = """
import sys
from autoopt.export import export
export(sys.argv[1], tensorboard=sys.argv[2])
assert not {"torch", "tensorflow"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "logs")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "logs" / "digits").iterdir())) == len(runs.results()) + 2
