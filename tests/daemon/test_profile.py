"""The daemon with its real runner, `autoopt profile`, on models that do and do not behave. Long: each loads torch."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from autoopt.journal import replay
from autoopt.records import RunResumed, TrialFinished, TrialResult
from tests.cli.test_profile import FAULTY, MODEL
from tests.daemon.daemons import Daemon, Place, fill, until

pytestmark = pytest.mark.long(seconds=15)
PATIENCE = 180.0
DATA = """
import torch
def build_model():
    return torch.nn.Linear(4, 1)
def train_dataloader():
    return [torch.ones(8, 4) * i for i in range(1, 9)]
STEPS = 20
"""
ENDLESS = "def loss(model, batch):\n    while True: pass\n"
IN_LOSS = """
import ctypes, os, resource, signal, subprocess, sys, time
def loss(model, batch, ctx):
    if ctx.step >= 3:
        {}
    return model(batch).square().mean()
"""
EAT = "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)); ctx.eaten = [bytearray(1 << 26) for _ in range(99)]"
MODELS = {
    "raises": "raise RuntimeError('no luck')",
    "segfaults": "ctypes.string_at(0)",
    "ignores-sigterm": "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)",
    "forks": "subprocess.Popen(['setsid', 'sleep', '1000']); os.fork() or (os.setsid(), time.sleep(1000))",
    "prints": "print('x' * (64 << 20)); sys.stdout.flush()",
    "eats-memory": EAT,
}


@pytest.fixture
def real(place: Place) -> Place:
    place.runner = "profile"
    place.environment["OMP_NUM_THREADS"] = "1"
    (place.folder / "model.py").write_text(MODEL)
    return place


def submit(daemon: Daemon, budget: str = "20s", **more: Any) -> str:
    return daemon.submit(options={"budget": budget, "optimizers": ["adamw", "sgd"], "device": "cpu"}, **more)


def results(place: Place, id_: str) -> list[TrialResult]:
    out = place.job_folder(id_) / "out"
    if not (out / "events.jsonl").exists():
        return []
    return [event.result for event in replay(out) if isinstance(event, TrialFinished)]


@pytest.mark.long(seconds=40)
def test_a_profile_survives_the_kill_of_its_daemon_and_of_a_worker(real: Place) -> None:
    daemon = real.serve()
    id_ = submit(daemon, "60s")
    until(lambda: len(results(real, id_)) >= 2, PATIENCE)
    for pid in real.processes():
        words = Path(f"/proc/{pid}/cmdline").read_text()
        if "trials.worker" in words:
            os.kill(pid, signal.SIGKILL)  # keeper and worker; the run starts others
    count = len(results(real, id_))
    until(lambda: len(results(real, id_)) >= count + 1, PATIENCE)
    daemon.kill()
    until(lambda: not real.processes(), 5)
    before = {result.spec.id for result in results(real, id_)}

    daemon = real.serve()
    job = daemon.end(id_, PATIENCE)
    assert (job["state"], job["complete"], job["deaths"]) == ("done", True, 0)
    ids = [result.spec.id for result in results(real, id_)]
    assert len(ids) == len(set(ids))  # each is recorded once
    assert before <= set(ids)
    assert any(isinstance(event, RunResumed) for event in replay(real.job_folder(id_) / "out"))
    told = daemon.ask("result", id_)
    assert told["recommendation"]["optimizer"]
    live = daemon.ask("live", id_)
    assert live["progress"] == {"share": 1.0, "seconds_left": 0.0, "phase": "ended"}
    assert len(live["trials"]) >= len(ids)
    assert live["workload"]["parameters"] > 0
    assert "noise of the user's" in daemon.ask("log", id_)
    real.sound(daemon)


def test_events_that_cannot_be_written_are_told_and_the_rest_is_whole(real: Place) -> None:
    daemon = real.serve()
    id_ = submit(daemon)
    out = real.job_folder(id_) / "out"
    until(lambda: results(real, id_), PATIENCE)
    runner = next(
        pid for pid in real.processes() if "autoopt\0profile" in Path(f"/proc/{pid}/cmdline").read_text()
    )
    # The file may not grow any more: the closest to a full disk that can be had for one process without being root.
    size = (out / "events.jsonl").stat().st_size
    resource.prlimit(runner, resource.RLIMIT_FSIZE, (size + 10, size + 10))
    job = daemon.end(id_, PATIENCE)
    # A file that is too large is no full disk: it is told, and what was recorded is whole.
    assert job["state"] == "failed"
    assert "could not be written" in job["reason"]
    assert "whole" in job["reason"]
    assert results(real, id_)
    real.sound(daemon)


@pytest.mark.long(seconds=30)
@pytest.mark.parametrize("leave", [0, 1 << 20], ids=["at-an-event", "at-the-result"])
def test_a_disk_that_is_full_costs_a_pause(real: Place, disk: Path, leave: int) -> None:
    real.limits["free"] = 2 << 20
    daemon = real.serve()
    id_ = submit(daemon)
    until(lambda: results(real, id_), PATIENCE)
    ballast = fill(disk, leave)
    until(lambda: daemon.job(id_)["reason"].startswith(("the disk was full", "it waits for space")), PATIENCE)
    recorded = {result.spec.id for result in results(real, id_)}
    ballast.unlink()
    job = daemon.end(id_, PATIENCE)
    assert (job["state"], job["complete"], job["deaths"]) == ("done", True, 0)
    ids = [result.spec.id for result in results(real, id_)]
    assert recorded <= set(ids)
    assert len(ids) == len(set(ids))
    assert (real.job_folder(id_) / "out" / "report.html").stat().st_size > 1 << 20
    real.sound(daemon)


@pytest.mark.parametrize("name", MODELS)
def test_models_that_misbehave(real: Place, name: str) -> None:
    (real.folder / "model.py").write_text(DATA + IN_LOSS.format(MODELS[name]))
    daemon = real.serve()
    id_ = submit(daemon, "12s")
    job = daemon.end(id_, PATIENCE)
    assert job["state"] in ("done", "failed")
    assert job["deaths"] == 0
    assert job["state"] == "done" or job["error"]["message"]
    real.sound(daemon)


def test_a_model_that_never_ends_can_be_cancelled(real: Place) -> None:
    (real.folder / "model.py").write_text(DATA + ENDLESS)
    daemon = real.serve()
    id_ = submit(daemon, "10m")
    until(lambda: (real.job_folder(id_) / "out" / "logs" / "worker-0.log").exists(), PATIENCE)
    daemon.ask("cancel", id_)
    assert daemon.end(id_)["state"] == "cancelled"
    real.sound(daemon)


def test_when_all_trials_diverge_the_job_fails_and_says_so(real: Place) -> None:
    (real.folder / "model.py").write_text((FAULTY / "always_nan.py").read_text())
    daemon = real.serve()
    job = daemon.end(submit(daemon, "15s"), PATIENCE)
    assert job["state"] == "failed"
    assert job["error"]["exit_code"] in (3, 5)
    assert job["attempts"] == 1
    real.sound(daemon)


def test_an_error_names_the_users_own_file(real: Place) -> None:
    (real.folder / "model.py").write_text(DATA + "def loss(model, batch):\n    return undefined\n")
    daemon = real.serve()
    job = daemon.end(submit(daemon), PATIENCE)
    assert job["state"] == "failed"
    assert "undefined" in job["reason"]
    assert "/jobs/" not in job["reason"] + job["error"]["hint"]
    real.sound(daemon)
