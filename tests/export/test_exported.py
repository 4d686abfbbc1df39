"""What is read from a run's folder, whatever state it is in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autoopt.errors import RunError, UsageError
from autoopt.export.exported import LOST, RUNNING, read
from autoopt.records import BASELINE
from tests.export import runs


def hold(folder: Path, process: int) -> None:
    (folder / ".holder").write_text(json.dumps({"pid": process, "since": "2026-01-01 00:00:00"}))


def test_every_trial_is_there_once_with_its_times(folder: Path) -> None:
    run = read(folder)
    assert [trial.spec.id for trial in run.trials] == [one.spec.id for one in runs.results()]
    assert (run.name, run.state) == ("digits", "finished")
    assert {trial.ended - trial.began for trial in run.trials if trial.ended and trial.began} == {3.0}
    assert {trial.outcome for trial in run.trials} == {"completed", "diverged", "error"}
    assert "lr" in run.ranges["adamw"]


def test_the_users_own_optimizer_has_its_own_settings(tmp_path: Path) -> None:
    told = [
        event.model_copy(
            update={
                "result": event.result.model_copy(
                    update={"spec": event.result.spec.model_copy(update={"hyper": {}})}
                )
            }
        )
        if event.kind == "trial_finished" and event.result.spec.optimizer == BASELINE
        else event
        for event in runs.events()
    ]
    own = [t for t in read(runs.write(tmp_path / "run", told)).trials if t.spec.optimizer == BASELINE]
    assert own
    assert {trial.hyper["lr"] for trial in own} == {1e-3}


def test_a_run_that_goes_on_has_a_trial_in_flight(tmp_path: Path) -> None:
    folder = runs.write(tmp_path / "run", runs.events(ended=False, flying=True))
    hold(folder, os.getpid())
    run = read(folder)
    assert run.state == "running"
    assert (run.trials[-1].outcome, run.trials[-1].ended, run.trials[-1].loss) == (RUNNING, None, None)


def test_of_a_killed_run_that_trial_is_lost(tmp_path: Path) -> None:
    folder = runs.write(tmp_path / "run", runs.events(ended=False, flying=True))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    hold(folder, ended.pid)
    run = read(folder)
    assert (run.state, run.trials[-1].outcome) == ("stopped", LOST)


def test_what_was_in_flight_before_a_resume_is_lost(tmp_path: Path) -> None:
    folder = runs.write(tmp_path / "run", runs.events(ended=False, flying=True, resumed=True))
    hold(folder, os.getpid())
    run = read(folder)
    assert (run.state, run.trials[-1].outcome) == ("running", LOST)


def test_a_torn_last_line_does_no_harm(folder: Path) -> None:
    before = read(folder)
    with (folder / "events.jsonl").open("a") as stream:
        stream.write('{"kind": "trial_fin')
    assert read(folder).trials == before.trials


def test_a_daemons_job_is_named_for_the_job(tmp_path: Path) -> None:
    runs.write(tmp_path / "jobs" / "abc12" / "out")
    run = read(tmp_path / "jobs" / "abc12")
    assert (run.name, run.folder.name) == ("abc12", "out")


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run"):
        read(tmp_path)
    with pytest.raises(RunError, match="no trial yet"):
        read(runs.write(tmp_path / "run", runs.events()[:2]))
    with pytest.raises(UsageError, match="cannot name a run"):
        read(runs.write(tmp_path / "run"), "../elsewhere")
