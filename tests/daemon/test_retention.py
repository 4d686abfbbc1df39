"""Ended jobs are forgotten when they are old, or when somebody says so; what waits or runs never is."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from autoopt.daemon import recovery
from autoopt.daemon.home import Home
from autoopt.daemon.hub import Hub
from autoopt.daemon.jobs import ENDED, Job, NoSuchJob, NotPossible, Options, State, Submission, new_id
from autoopt.daemon.limits import Limits
from autoopt.daemon.notes import Notes
from autoopt.daemon.retention import DAY, Disk, Keep, Retention, size
from autoopt.daemon.service import Service
from autoopt.daemon.snapshot import Snapshot
from autoopt.daemon.store import Changed, Store
from autoopt.hardware.leases import Leases
from tests.daemon.daemons import until

NOW = 1_800_000_000.0


class Place:
    """A home with a queue, and jobs put into it."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.home.make()
        self.store = Store(self.home.database, self.home.backup)
        self.told: list[list[str]] = []
        self.said: list[str] = []
        self._last: str | None = None

    def add(self, state: State = State.DONE, *, days: float = 0.0, prior: Path | None = None) -> str:
        """A job that ended so many days ago, with a file of a thousand bytes."""
        self._last = id_ = new_id(NOW - 400 * DAY, self._last)
        options = Options(prior=[str(prior)] if prior else [])
        ended = NOW - days * DAY if state in ENDED else None
        submission = Submission(target="model.py", options=options)
        job = Job(id=id_, submission=submission, state=state, created=NOW, ended=ended, folder=f"jobs/{id_}")
        out = self.home.job(id_) / "out"
        out.mkdir(parents=True)
        (out / "events.jsonl").write_bytes(b"x" * 1000)
        self.store.insert(job)
        return id_

    def retention(self, keep: Keep | None = None, running: Collection[str] = ()) -> Retention:
        return Retention(
            self.home,
            self.store,
            running=running,
            gone=self.told.append,
            notes=Notes(self.said.append),
            clock=lambda: NOW,
            keep=keep or Keep(),
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_forgotten_job_leaves_nothing(place: Place) -> None:
    gone, kept = place.add(), place.add()
    assert place.retention().forget(gone) == 1000
    assert place.store.ids() == {kept}
    assert [folder.name for folder in place.home.jobs.iterdir()] == [kept]
    assert place.told == [[gone]]
    with pytest.raises(NoSuchJob):
        place.retention().forget(gone)


@pytest.mark.parametrize("state", sorted(set(State) - ENDED))
def test_what_has_not_ended_is_never_forgotten(place: Place, state: State) -> None:
    id_ = place.add(state)
    retention = place.retention(Keep(days=0, jobs=0))
    with pytest.raises(NotPossible, match="only what has ended"):
        retention.forget(id_)
    assert retention.prune() == ([], 0)
    assert place.home.job(id_).exists()


def test_a_job_whose_guard_is_still_known_stays(place: Place) -> None:
    id_ = place.add()
    retention = place.retention(Keep(days=0, jobs=0), running={id_})
    with pytest.raises(NotPossible, match="just ending"):
        retention.forget(id_)
    assert retention.prune() == ([], 0)


def test_a_prior_of_a_job_that_waits_stays(place: Place) -> None:
    first = place.add(days=900)
    second = place.add(State.QUEUED, prior=place.home.job(first) / "out")
    with pytest.raises(NotPossible, match=f"Job {second} has the run of job {first} as a prior"):
        place.retention().forget(first)
    assert place.retention().prune() == ([], 0)


def test_the_old_and_the_many_go_oldest_first(place: Place) -> None:
    old, middle, new = place.add(days=40), place.add(State.FAILED, days=20), place.add(days=1)
    by_age = place.retention(Keep(days=30))
    assert by_age.prune(dry_run=True) == ([old], 1000)
    assert place.home.job(old).exists()
    assert by_age.prune() == ([old], 1000)
    assert by_age.prune(Keep(jobs=0), dry_run=True) == ([middle, new], 2000)
    assert by_age.prune(Keep(jobs=1)) == ([middle], 1000)
    assert place.store.ids() == {new}
    assert place.told == [[old], [middle]]


def test_for_ever_is_for_ever(place: Place) -> None:
    place.add(days=100_000)
    assert place.retention(Keep(days=float("inf"))).prune() == ([], 0)


def test_one_that_is_tried_again_at_that_moment_stays(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = place.add(State.FAILED, days=900)
    real = place.store.remove

    def retried_before(job: Job) -> None:
        place.store.replace(job, job.moved(State.QUEUED, ended=None))
        real(job)

    monkeypatch.setattr(place.store, "remove", retried_before)
    assert place.retention().prune() == ([], 0)
    assert place.store.get(id_).state is State.QUEUED
    assert place.home.job(id_).exists()
    with pytest.raises(Changed):
        real(place.store.get(id_).model_copy(update={"version": 99}))


def test_what_a_killed_daemon_left_is_removed_at_the_next_start(place: Place) -> None:
    id_ = place.add()
    place.store.remove(place.store.get(id_))  # and there the power went
    place.store.close()
    recovery.open_store(place.home, place.said.append).close()
    assert not place.home.job(id_).exists()


def test_the_disk_is_counted_without_what_is_linked(place: Place, tmp_path: Path) -> None:
    id_ = place.add()
    (tmp_path / "data.bin").write_bytes(b"x" * 50_000)
    (place.home.job(id_) / "data.bin").symlink_to(tmp_path / "data.bin")
    assert 1000 < size(place.home.jobs) < 2000
    disk = place.retention().disk()
    assert isinstance(disk, Disk)
    assert (disk.jobs, disk.bytes) == (1, size(place.home.jobs))
    place.retention().forget(id_)
    assert (tmp_path / "data.bin").exists(), "what was linked is somebody else's"


def test_it_looks_by_itself(place: Place) -> None:
    old = place.add(days=900)
    retention = place.retention()
    retention.start()
    try:
        until(lambda: place.told == [[old]])
        until(lambda: retention.taken is not None)
    finally:
        retention.stop()
    assert not place.home.job(old).exists()


def test_whoever_watches_begins_anew() -> None:
    hub = Hub(lambda: {"jobs": []})
    hub.publish("job", "a", {})
    last = hub.last
    woken = threading.Event()
    hub.listen(woken.set)
    hub.reset()
    (update,) = hub.after(last)
    assert (update.kind, update.data, woken.is_set()) == ("reset", {"jobs": []}, True)
    assert hub.after(update.id) == []


def fails(job: Job, taken: Snapshot, folder: Path, *, resume: bool, device: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", "raise SystemExit(3)"]


def waits(job: Job, taken: Snapshot, folder: Path, *, resume: bool, device: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", "import time; time.sleep(99)"]


def served(folder: Path, command: Callable[..., list[str]]) -> Service:
    (folder / "model.py").write_text("x = 1\n")
    return Service(
        Home(folder / "home"),
        devices="cpu",
        command=command,
        leases=Leases(folder / "leases"),
        limits=Limits(free=0, grace=0.1),
        say=lambda _: None,
    )


def test_of_a_daemon_at_work(tmp_path: Path) -> None:
    service = served(tmp_path, fails)
    service.start()
    try:
        job = service.submit(Submission(target="model.py", cwd=str(tmp_path), key="once"))
        until(lambda: service.job(job.id).state in ENDED and service.metrics()["guards"] == 0, 10.0)
        assert service.disk()["jobs"] == 1
        assert service.disk()["keep"] == {"days": 365.0, "jobs": 10_000}
        assert service.prune(days=1)["jobs"] == []
        last = service.hub.last
        answer = service.forget(job.id)
        assert answer["jobs"] == [job.id]
        assert answer["freed_bytes"] > 0
        assert service.jobs() == []
        assert [update.kind for update in service.updates(last)] == ["reset"]
        assert not service.home.job(job.id).exists()
        again = service.submit(Submission(target="model.py", cwd=str(tmp_path), key="once"))
        assert again.id != job.id, "its key is free again"
    finally:
        service.stop()


def test_a_running_job_is_refused_and_goes_on(tmp_path: Path) -> None:
    service = served(tmp_path, waits)
    service.start()
    try:
        job = service.submit(Submission(target="model.py", cwd=str(tmp_path)))
        until(lambda: service.job(job.id).state is State.RUNNING, 10.0)
        with pytest.raises(NotPossible, match="is running: only what has ended"):
            service.forget(job.id)
        assert service.prune(days=0, jobs=0)["jobs"] == []
        assert service.job(job.id).state is State.RUNNING
    finally:
        service.stop()
