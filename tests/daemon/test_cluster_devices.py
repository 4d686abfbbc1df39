"""Who gets which places of a cluster: with real files, and a lookout that sees what a test says."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoopt.daemon.checks import check
from autoopt.daemon.cluster import ClusterDevices, ClusterPlace
from autoopt.daemon.home import Home
from autoopt.daemon.jobs import Job, Options, Submission, new_id
from autoopt.daemon.lookout import Sight
from autoopt.daemon.machine import Machine
from autoopt.errors import DeviceError, UsageError
from autoopt.records import Cluster, Noted
from autoopt.trials.cluster.allotted import ALLOTTED, HELD, Allotment, Held, write
from autoopt.trials.cluster.messages import Node


class Seen:
    """A lookout."""

    def __init__(self, *_: Any) -> None:
        self.sight = Sight()
        self.doubts = 0

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def doubt(self) -> None:
        self.doubts += 1

    def shows(self, *nodes: Node) -> None:
        self.sight = Sight(nodes, there=True)


class Made:
    """The devices of a home, and what the test changes."""

    def __init__(self, folder: Path, at_once: int = 4, **given: Any) -> None:
        self.home = Home(folder)
        self.home.make()
        self.seen = Seen()
        self._last: str | None = None
        cluster = Cluster(address="head:6379", cpus=given.get("cpus"), gpus=given.get("gpus"))
        self.devices = ClusterDevices(cluster, self.home, lambda: None, at_once, lambda *_: self.seen)  # type: ignore[arg-type, return-value]

    def job(self, device: str | None = None, workers: int | None = None) -> Job:
        self._last = new_id(time.time(), self._last)
        self.home.job(self._last).mkdir()
        options = Options(device=device, workers=workers)
        return Job(
            id=self._last, submission=Submission(target="m.py", options=options), created=1.0, folder="f"
        )

    def allotted(self, job: Job) -> dict[str, int]:
        return Allotment.model_validate_json((self.home.job(job.id) / ALLOTTED).read_bytes()).places

    def holds(self, job: Job, **places: int) -> None:
        write(self.home.job(job.id) / HELD, Held(places=places, loaded=places))

    def placed(self, job: Job) -> ClusterPlace:
        found = self.devices.place(job)
        assert isinstance(found, ClusterPlace), found
        return found

    def waits(self, job: Job) -> str:
        found = self.devices.place(job)
        assert isinstance(found, str), found
        return found


def node(name: str, cpus: float = 1, gpus: float = 0, kind: str = "x") -> Node:
    return Node(
        id=name, address=f"10.0.0.{name}", cpus=cpus, gpus=gpus, device=kind, free_cpus=cpus, free_gpus=gpus
    )


Make = Callable[..., Made]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr("autoopt.daemon.cluster.check_usable", lambda address: None)
    return lambda **given: Made(tmp_path / "home", **given)


def test_jobs_wait_until_the_cluster_is_there_and_it_is_said_why(make: Make) -> None:
    made = make()
    made.devices.begin()
    job = made.job()
    assert "head:6379: it is being connected to" in made.waits(job)
    made.seen.sight = Sight(trouble="There is no Ray cluster at head:6379")
    assert "There is no Ray cluster" in made.waits(job)
    assert "There is no Ray cluster" in made.devices.trouble
    assert made.devices.devices()[0]["trouble"].startswith("There is no Ray cluster")
    assert made.devices.figures()["cluster_up"] == 0
    made.seen.shows()
    assert "no machines" in made.waits(job)
    made.seen.shows(node("1"))
    made.devices.begin()
    place = made.placed(job)
    assert (place.devices, place.request, place.uuids, place.leases) == (["cluster:x"], "cpu", [], [])
    assert place.cluster == Cluster(address="head:6379", cpus=1.0, gpus=0.0)


def test_one_job_has_all_and_gives_half_back_when_another_one_comes(make: Make) -> None:
    made = make()
    made.seen.shows(node("1", 2), node("2", 2))
    made.devices.begin()
    first, second = made.job(), made.job()
    made.placed(first)
    assert made.allotted(first) == {"1": 2, "2": 2}
    made.holds(first, **{"1": 2, "2": 2})
    assert "4 in all, 4 given" in made.waits(second)

    assert made.devices.begin() == {first.id: 2}
    assert sum(made.allotted(first).values()) == 2
    assert "place" in made.waits(second)  # asked for, and not given back yet
    made.holds(first, **made.allotted(first))
    made.devices.begin()
    place = made.placed(second)
    assert sum(made.allotted(second).values()) == 2
    assert made.devices.begin() == {first.id: 2, second.id: 2}

    place.release()  # it has ended: the other one gets all again
    assert made.devices.begin() == {first.id: 4}


def test_a_job_says_how_many_it_wants_and_goes_on_with_fewer(make: Make) -> None:
    made = make()
    made.seen.shows(node("1", 3))
    made.devices.begin()
    first, second = made.job(workers=2), made.job(workers=8)
    made.placed(first)
    made.placed(second)
    assert (made.allotted(first), made.allotted(second)) == ({"1": 2}, {"1": 1})
    made.seen.shows(node("1", 3), node("2", 4))
    assert made.devices.begin() == {first.id: 2, second.id: 5}
    made.seen.shows(node("2", 4))
    assert made.devices.begin() == {first.id: 2, second.id: 2}


def test_no_more_jobs_at_once_than_this_machine_can_lead_and_none_overtakes(make: Make) -> None:
    made = make(at_once=1)
    made.seen.shows(node("1", 4))
    made.devices.begin()
    made.placed(made.job(workers=1))
    assert "1 jobs use the cluster" in made.waits(made.job())
    made = Made(made.home.path.parent / "other", at_once=4, cpus=2)
    made.seen.shows(node("1", 4))
    made.devices.begin()
    taken = made.job()
    made.placed(taken)
    made.holds(taken, **{"1": 2})
    assert "waits for a place" in made.waits(made.job())
    assert "waits for a place" in made.waits(made.job(workers=1))


def test_kinds_are_kept_apart_and_a_job_keeps_the_one_that_it_began_on(make: Make) -> None:
    made = make()
    made.seen.shows(node("1", 8, 2, "H100"), node("2", 8, 1, "A100"), node("3", 8))
    made.devices.begin()
    first, second, cpu = made.job(), made.job(), made.job("cluster:cpu")
    assert made.placed(first).devices == ["cluster:H100"]
    place = made.placed(second)
    assert (place.devices, place.request) == (["cluster:A100"], "cuda")
    assert made.placed(cpu).cluster == Cluster(address="head:6379", cpus=1.0, gpus=0.0)
    kinds = {
        told["uuid"].partition(":")[2]: (told["total"], told["used"], told["free"])
        for told in made.devices.devices()
    }
    assert kinds["H100"][:2] == (2, 2)
    assert kinds["A100"][:2] == (1, 1)
    place.release()
    made.seen.shows(node("1", 8, 9, "H100"), node("2", 8, 1, "A100"))
    made.devices.begin()
    assert made.placed(second).devices == ["cluster:A100"]
    figures = made.devices.figures()
    assert figures["cluster_places_used/A100"] == 1
    assert figures["cluster_machines"] == 2


def test_a_submission_with_the_clusters_token_is_refused(make: Make, tmp_path: Path) -> None:
    machine, cluster = Machine("none"), make().devices
    check(Submission(target="m.py"), tmp_path, machine, cluster)
    given = Submission(target="m.py", environment={"RAY_AUTH_TOKEN": "hidden"})
    with pytest.raises(UsageError, match="is a secret") as refused:
        check(given, tmp_path, machine, cluster)
    assert "hidden" not in str(refused.value)
    with pytest.raises(DeviceError, match="no device of its own machine"):
        check(Submission(target="m.py", options=Options(device="cpu")), tmp_path, machine, cluster)
    with pytest.raises(UsageError, match="--ship is for a job on a cluster"):
        check(Submission(target="m.py", options=Options(ship="data")), tmp_path, Machine("cpu"), None)


def test_a_run_stays_where_it_began(make: Make) -> None:
    made = make()
    here, there = made.job(), made.job()
    for job in (here, there):
        (made.home.job(job.id) / "out").mkdir()
        event = Noted(at=1.0, text="x").model_dump_json()
        (made.home.job(job.id) / "out" / "events.jsonl").write_text(f"{event}\n")
    write(made.home.job(there.id) / ALLOTTED, Allotment(kind="x", places={"1": 1}))
    assert [made.devices.is_for(job) for job in (here, there, made.job())] == [False, True, True]


def test_what_cannot_be_had_is_said(make: Make) -> None:
    made = make(cpus=16)
    made.seen.shows(node("1", 8))
    made.devices.begin()
    assert "room for a trial of 16 cores" in made.waits(made.job())
    with pytest.raises(DeviceError, match="has a GPU"):
        made.devices.place(made.job("cluster:cuda"))
    with pytest.raises(DeviceError, match="cluster:7"):
        made.devices.place(made.job("cluster:7"))
    assert [made.devices.takes(name) for name in (None, "auto", "cluster", "cpu", "cuda:0")] == [
        True,
        True,
        True,
        False,
        False,
    ]
