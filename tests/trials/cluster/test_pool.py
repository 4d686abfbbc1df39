"""Trials on a real Ray cluster of several nodes on this machine."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from autoopt.errors import ClusterGone, WorkerError
from autoopt.records import Outcome, TrialResult
from autoopt.trials.cluster.pool import ClusterPool
from autoopt.trials.cluster.shipping import Shipment
from autoopt.trials.pool import Pool
from autoopt.trials.runner import Progress
from autoopt.trials.testing import spec
from tests.trials.cluster.machines import MODEL, Machines
from tests.trials.conftest import until

pytest.importorskip("ray")
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("ray")]

AFTER_STEP = """
def after_step(model, ctx):
    import os, time
    open(os.path.join({folder!r}, f"{{os.getpid()}}"), "w").close()
    if ctx.total_steps > 100:
        time.sleep(0.05)
"""
SECONDS = 300


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    machines = Machines()
    yield machines
    machines.close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A model whose trials of more than a hundred steps last, and which tells the processes that train it."""
    (tmp_path / "pids").mkdir()
    (tmp_path / "project").mkdir()
    file = tmp_path / "project" / "model.py"
    file.write_text(MODEL + AFTER_STEP.format(folder=str(tmp_path / "pids")))
    return file


def opened(machines: Machines, target: Path, **options: object) -> ClusterPool:
    logs = target.parents[1] / "logs"
    return ClusterPool(
        machines.address, Shipment.of(str(target)), log_dir=logs, device="cpu", timing_seconds=0.2, **options
    )  # type: ignore[arg-type]


def trainers(target: Path) -> set[int]:
    return {
        int(file.name) for file in (target.parents[1] / "pids").iterdir() if psutil.pid_exists(int(file.name))
    }


def results(pool: ClusterPool | Pool, count: int) -> list[TrialResult]:
    found: list[TrialResult] = []
    deadline = time.monotonic() + SECONDS
    while len(found) < count:
        assert time.monotonic() < deadline, "the trials did not end"
        found += [item for item in pool.wait(0.2) if isinstance(item, TrialResult)]
    return found


def all_idle(pool: ClusterPool, count: int) -> None:
    until(lambda: (pool.wait(0.1), len(pool.idle()) == count)[1], SECONDS)


def test_trials_give_what_they_give_here_and_joined_and_lost_nodes_are_dealt_with(
    machines: Machines, target: Path
) -> None:
    first = machines.add(num_cpus=1)
    pool = opened(machines, target)
    try:
        assert pool.start().target == "model.py"
        assert pool.slots == 1

        machines.add(num_cpus=1)  # one that comes late is used
        all_idle(pool, 2)
        assert pool.about["slots"] == 2

        for number, slot in enumerate(pool.idle()):
            pool.submit(slot, spec(number, "adamw", lr=0.1, steps=20))
        there = results(pool, 2)
        with Pool(str(target), log_dir=target.parents[1] / "local", workers=1, threads=1) as local:
            local.start()
            local.submit(0, spec(0, "adamw", lr=0.1, steps=20))
            here = results(local, 1)[0]
        assert [r.outcome for r in there] == [Outcome.COMPLETED] * 2
        assert {r.loss for r in there} == {here.loss}
        assert {tuple(r.digests) for r in there} == {tuple(here.digests)}

        # A node is lost in mid-trial: both trials end, each once, and the lost one ran again on the other node.
        for number, slot in enumerate(pool.idle()):
            pool.submit(slot, spec(10 + number, "sgd", lr=0.01, steps=120))
        begun: set[int] = set()
        while len(begun) < 2:
            begun.update(item.trial for item in pool.wait(0.1) if not isinstance(item, TrialResult))
        machines.remove(first)
        ended = results(pool, 2)
        assert sorted(r.spec.id for r in ended) == [10, 11]
        assert [r.outcome for r in ended] == [Outcome.COMPLETED] * 2
        assert all(r.steps_done == 120 for r in ended)
        late: list[Progress | TrialResult] = []
        until(lambda: (late.extend(pool.wait(0.1)), pool.slots == 1)[1], SECONDS)  # Ray tells a second later
        late += pool.wait(1.0)
        assert [item for item in late if isinstance(item, TrialResult)] == []
    finally:
        pool.close()
    until(lambda: not trainers(target), SECONDS)


def test_a_killed_actor_takes_its_worker_along(machines: Machines, target: Path) -> None:
    node = machines.add(num_cpus=1, resources={"mine": 1})
    pool = opened(machines, target, workers=1)
    try:
        pool.start()
        pool.submit(pool.idle()[0], spec(1, "adamw", steps=100_000))
        until(lambda: (pool.wait(0.1), len(trainers(target)) == 1)[1], SECONDS)
        worker = trainers(target).pop()
        keeper = psutil.Process(worker).parent()
        assert keeper is not None
        actor = keeper.parent()
        assert actor is not None
        assert "Host" in " ".join(actor.cmdline())
        os.kill(actor.pid, signal.SIGKILL)
        until(lambda: not psutil.pid_exists(worker), SECONDS)
        cancelled = pool.cancel()
        assert [r.outcome for r in cancelled] == [Outcome.CANCELLED]
    finally:
        pool.close()
        machines.remove(node)


def test_gpus_are_never_given_twice(machines: Machines, target: Path) -> None:
    node = machines.add(num_cpus=8, num_gpus=1)
    pool = opened(machines, target, gpus=0.5)
    other = None
    try:
        pool.start()
        assert pool.slots == 2
        other = opened(machines, target, gpus=0.5)  # it waits for what the first one holds
        all_idle(pool, 2)
        for slot in pool.idle():
            pool.submit(slot, spec(slot, "adamw", steps=110))
        until(lambda: (pool.wait(0.1), len(trainers(target)) == 2)[1], SECONDS)
        assert len(results(pool, 2)) == 2
        assert len(trainers(target)) == 2
        assert other.idle() == []
    finally:
        pool.close()
        if other is not None:
            other.close()
        machines.remove(node)


def test_a_service_that_is_no_cluster(target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ClusterGone, match=f"cluster at {address}"):
            ClusterPool(address, Shipment.of(str(target)), log_dir=target.parents[1] / "logs", load_seconds=5)


def test_a_wrong_token_is_refused(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machines = Machines({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64})
    try:
        machines.add(num_cpus=1)
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN", "b" * 64)
        with pytest.raises(WorkerError, match="refused this token"):
            opened(machines, target)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
        pool = opened(machines, target)
        assert pool.slots == 1
        pool.close()
    finally:
        machines.close()
