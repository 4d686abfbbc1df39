"""`autoopt profile --cluster` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoopt import Recommendation
from autoopt.cli.main import run
from tests.trials.cluster.machines import ROOT, Machines

SECONDS = 300


def test_what_is_for_a_cluster_wants_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", "model.py", "--gpus-per-trial", "0.5"]) == 2
    assert "there is no --cluster" in capsys.readouterr().err


@pytest.mark.long(seconds=100)
@pytest.mark.xdist_group("ray")
def test_a_run_whose_head_is_killed_goes_on_with_resume(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    out = tmp_path / "run"
    command = [
        *(sys.executable, "-m", "autoopt", "profile", "examples/digits_mlp/model.py", "--ship", "examples"),
        *("--steps", "200", "--budget", "150s", "--out", str(out), "--device", "cpu", "--quiet"),
        *("--optimizers", "adamw,sgd"),
    ]
    environment = {**os.environ, "RAY_gcs_rpc_server_reconnect_timeout_s": "3"}
    machines = Machines(environment)
    try:
        machines.add(num_cpus=2)
        running = subprocess.Popen(
            [*command, "--cluster", machines.address],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + SECONDS
        while finished(out) < 2:
            assert time.monotonic() < deadline
            assert running.poll() is None, running.communicate()[1]
            time.sleep(0.1)
        machines.kill_head()
        _, said = running.communicate(timeout=SECONDS)
        assert running.returncode not in (0, None)
        assert "--resume" in said
    finally:
        machines.close()
    before = finished(out)
    assert before >= 2
    machines = Machines(environment)
    try:
        machines.add(num_cpus=2)
        done = subprocess.run(
            [*command, "--cluster", machines.address, "--resume"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=2 * SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    finally:
        machines.close()
    assert finished(out) > before
    recipe = (out / "recommendation.yaml").read_text()
    assert "machines:" in recipe


@pytest.mark.long(seconds=60)
@pytest.mark.xdist_group("ray")
def test_several_processes_train_one_model_in_an_actor(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    machines = Machines()
    try:
        machines.add(num_cpus=3)
        for budget in ("60s", "200s"):  # the next where the one before did not last for the start
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "autoopt", "profile", "examples/digits_mlp/model.py"),
                    *("--ship", "examples", "--cluster", machines.address, "--nproc", "2", "--steps", "40"),
                    *("--optimizers", "adamw,sgd", "--device", "cpu", "--budget", budget),
                    *("--out", str(tmp_path / "run"), "--quiet"),
                ],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=2 * SECONDS,
                check=False,
            )
            if done.returncode == 0:
                break
        assert done.returncode == 0, done.stderr
    finally:
        machines.close()
    found = Recommendation.load(tmp_path / "run")
    assert found.workload.processes == 2
    assert found.expected.ranks is not None
    assert len(found.expected.ranks.step_seconds) == 2
    assert found.provenance["cluster"]["slots"] == 1  # of three cores two are a trial's, and one is left over


def finished(out: Path) -> int:
    """Trials that have ended, by the run's events."""
    file = out / "events.jsonl"
    if not file.exists():
        return 0
    lines = [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]
    return sum(line.get("event", line).get("kind") == "trial_finished" for line in lines)
