"""`autoopt profile --nproc`: what is refused at once, and a whole run of two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import autoopt
from autoopt.errors import UsageError
from tests.trials.conftest import until
from tests.trials.test_ranks import write

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "autoopt", "profile", "model.py", "--nproc", "2", "--steps", "40"]


def autoopt_(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *more],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_what_the_daemon_and_choose_cannot_do_is_said(tmp_path: Path) -> None:
    write(tmp_path)
    done = autoopt_(tmp_path, "--daemon")
    assert done.returncode == 2
    assert "--nproc 2 is not for the daemon, which leases one device to a job" in done.stderr
    with pytest.raises(UsageError, match="nproc= needs processes that load them anew"):
        autoopt.choose(lambda: None, [], nproc=2)  # type: ignore[arg-type,return-value]


@pytest.mark.long
def test_a_run_of_two_processes_from_the_command_to_its_script(tmp_path: Path) -> None:
    write(tmp_path)
    for budget in ("30s", "120s", "300s"):  # the next where the one before did not last for the start
        done = autoopt_(
            tmp_path, "--budget", budget, "--optimizers", "adamw,sgd", "--device", "cpu", "--out", "out"
        )
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    assert "torchrun --nproc-per-node 2 out/train.py" in done.stdout
    assert "16 samples (8 a batch, 2 processes)" in done.stdout
    found = autoopt.Recommendation.load(tmp_path / "out")
    assert (found.settings.ranks, found.settings.accumulate, found.workload.processes) == (2, 2, 2)
    assert found.expected.ranks is not None
    assert found.expected.peak_bytes == max(size or 0 for size in found.expected.ranks.peak_bytes)
    assert "torchrun --nproc-per-node 2" in found.snippet("plain")
    for file in ("report.html", "recommendation.yaml", "train.py"):
        assert "DistributedDataParallel" in (tmp_path / "out" / file).read_text() or file == "train.py"


@pytest.mark.long
def test_ctrl_c_leaves_no_process_behind(tmp_path: Path) -> None:
    write(tmp_path)
    process = subprocess.Popen(
        [*COMMAND, "--budget", "300s", "--device", "cpu", "--out", "out"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        events = tmp_path / "out" / "events.jsonl"
        until(lambda: events.exists() and "trial_started" in events.read_text(), seconds=200)
        ours = psutil.Process(process.pid).children(recursive=True)
        assert len(ours) >= 4  # a keeper, a launcher and two ranks
        time.sleep(0.5)  # into the trial
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)
        until(
            lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in ours), seconds=10
        )
    finally:
        process.kill()
