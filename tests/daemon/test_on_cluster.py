"""The daemon on a real Ray cluster of several nodes on this machine: shares, cancels, kills, and a head that comes back."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoopt.journal import replay
from autoopt.records import Recommendation, RunResumed, TrialFinished, TrialResult
from autoopt.report import recipe
from tests.cli.test_profile import MODEL
from tests.daemon.daemons import Daemon, Place, gone, until
from tests.trials.cluster.machines import Machines

pytest.importorskip("ray")
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("ray")]

PATIENCE = 400.0
TOKEN = "0f" * 32
SLOW = MODEL + "\ndef after_step(model, ctx):\n    import time; time.sleep(0.02)\n"


@pytest.fixture
def environment() -> dict[str, str]:
    """Of the cluster and of the daemon; with a port that the head has again when it comes back."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        "RAY_GCS_SERVER_PORT": str(port),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
        "TEST_CLUSTER": f"127.0.0.1:{port}",
    }


@pytest.fixture
def machines(environment: dict[str, str]) -> Iterator[list[Machines]]:
    """A list, to which a test adds the cluster that it starts anew."""
    made = [Machines(environment)]
    yield made
    for one in made:
        one.close()


@pytest.fixture
def real(place: Place, environment: dict[str, str]) -> Place:
    place.runner = "profile"
    place.limits = {**place.limits, "pause": 1.0, "longest_pause": 2.0}
    place.environment.update(environment)
    (place.folder / "project").mkdir()
    (place.folder / "project" / "model.py").write_text(SLOW)
    return place


def submit(daemon: Daemon, budget: str, **options: Any) -> str:
    given = {"budget": budget, "optimizers": ["adamw", "sgd"], "device": "cluster:cpu", **options}
    project = str(daemon.home.parent / "project")
    return daemon.submit(options=given, cores=None, cwd=project)


def results(place: Place, id_: str) -> list[TrialResult]:
    out = place.job_folder(id_) / "out"
    if not (out / "events.jsonl").exists():
        return []
    return [event.result for event in replay(out) if isinstance(event, TrialFinished)]


def there(daemon: Daemon) -> dict[str, Any]:
    """The cluster as it is told."""
    told: dict[str, Any] = next(d for d in daemon.ask("devices") if d["kind"] == "cluster")
    return told


def actors(place: Place) -> list[int]:
    """Processes of the jobs that Ray has started."""
    found = []
    for pid in place.processes():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        if words.startswith("ray::") and not gone(pid):
            found.append(pid)
    return found


def has_token(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()]


def test_two_jobs_share_the_machines_and_outlive_the_daemon(real: Place, machines: list[Machines]) -> None:
    daemon = real.serve()
    machines[0].add(num_cpus=1)
    until(lambda: there(daemon)["total"] == 1, PATIENCE)
    machines[0].add(num_cpus=1)
    until(lambda: there(daemon)["total"] == 2, PATIENCE)
    first = submit(daemon, "200s")
    until(lambda: daemon.job(first)["places"] == 2, PATIENCE)
    until(lambda: len(results(real, first)) >= 1, PATIENCE)
    assert daemon.job(first)["devices"][0].startswith("cluster:")

    # One place is given back when its trial has ended, and goes to the second job; never more than two are taken.
    second = submit(daemon, "200s", workers=2)
    until(lambda: daemon.job(second)["state"] == "running", PATIENCE)
    assert (daemon.job(first)["places"], there(daemon)["free"]) == (1, 0)
    until(lambda: len(results(real, second)) >= 1, PATIENCE)
    assert daemon.state(first) == "running"
    assert there(daemon)["used"] == 2
    assert len(actors(real)) == 2
    assert daemon.ask("metrics")["cluster_up"] == 1

    daemon.ask("cancel", second)
    assert daemon.end(second)["state"] == "cancelled"
    until(lambda: daemon.job(first)["places"] == 2, PATIENCE)

    daemon.kill()
    until(lambda: not actors(real), 30)
    daemon = real.serve()
    job = daemon.end(first, PATIENCE)
    assert (job["state"], job["complete"], job["losses"], job["deaths"]) == ("done", True, 0, 0)
    out = real.job_folder(first) / "out"
    ids = [result.spec.id for result in results(real, first)]
    assert len(ids) == len(set(ids))
    assert any(isinstance(event, RunResumed) for event in replay(out))
    done = recipe.load(out / recipe.FILE_NAME)
    assert isinstance(done, Recommendation)
    assert done.provenance["cluster"]["machines"]
    until(lambda: not actors(real), 30)
    until(lambda: there(daemon)["free"] == 2, PATIENCE)
    daemon.stop()
    assert has_token(real.folder) == []


def test_a_job_waits_for_a_cluster_that_is_lost_and_goes_on(
    real: Place, machines: list[Machines], environment: dict[str, str]
) -> None:
    machines[0].add(num_cpus=2)
    daemon = real.serve()
    id_ = submit(daemon, "100s")
    until(lambda: len(results(real, id_)) >= 2, PATIENCE)
    machines[0].kill_head()
    until(lambda: daemon.job(id_)["losses"] == 1, PATIENCE)
    job = daemon.job(id_)
    assert (job["state"], job["deaths"]) == ("queued", 0)
    assert "cluster" in job["reason"]
    before = {result.spec.id for result in results(real, id_)}
    until(lambda: there(daemon)["trouble"], PATIENCE)
    assert daemon.ask("health")["status"] == "degraded"
    until(lambda: "waits for the cluster" in daemon.job(id_)["reason"], PATIENCE)
    machines[0].close()

    machines.append(Machines(environment))
    machines[1].add(num_cpus=2)
    job = daemon.end(id_, PATIENCE)
    assert (job["state"], job["complete"]) == ("done", True)
    ids = [result.spec.id for result in results(real, id_)]
    assert before <= set(ids)
    assert len(ids) == len(set(ids))
    assert daemon.ask("health")["status"] == "ok"


def test_a_killed_guard_leaves_nothing_on_the_cluster(real: Place, machines: list[Machines]) -> None:
    machines[0].add(num_cpus=1)
    daemon = real.serve()
    id_ = submit(daemon, "60s")
    until(lambda: actors(real), PATIENCE)
    daemon.ask("cancel", id_)
    assert daemon.end(id_)["state"] == "cancelled"
    until(lambda: not actors(real), 30)
    daemon.ask("retry", id_)
    until(lambda: actors(real), PATIENCE)
    guard = next(p for p in real.processes() if "daemon.guard" in Path(f"/proc/{p}/cmdline").read_text())
    os.kill(guard, signal.SIGKILL)
    until(lambda: daemon.job(id_)["deaths"] == 1, PATIENCE)
    daemon.ask("cancel", id_)
    daemon.end(id_)
    until(lambda: not actors(real), 30)
