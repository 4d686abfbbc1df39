from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from autoopt.daemon import store as module
from autoopt.daemon.jobs import DiskFull, Job, NoSuchJob, State, Submission, new_id
from autoopt.daemon.store import MIGRATIONS, Changed, Damaged, Store, set_aside
from autoopt.errors import RunError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


def made(path: Path, *more: module.Migration) -> Store:
    return Store(path, path.parent / "backup", (*MIGRATIONS, *more))


def job(last: str | None = None, **more: object) -> Job:
    submission = Submission.model_validate({"target": "model.py", **more})
    return Job(id=new_id(1.8e9, last), submission=submission, created=1.8e9, folder="jobs/x")


def test_what_was_inserted_is_there_after_a_reopen(path: Path) -> None:
    store = made(path)
    first = store.insert(job())
    second = store.insert(job(first.id))
    store.close()
    store = made(path)
    assert store.jobs() == [second, first]
    assert store.get(first.id) == first
    assert store.last_id() == second.id
    assert store.jobs(before=second.id) == [first]
    assert store.jobs({State.DONE}) == []
    assert store.counts()[State.QUEUED] == 2
    with pytest.raises(NoSuchJob):
        store.get("nobody")
    store.close()


def test_a_key_makes_one_job(path: Path) -> None:
    store = made(path)
    first = store.insert(job(key="k"))
    assert store.insert(job(first.id, key="k")) == first
    assert store.insert(job(first.id)).id != first.id  # without a key each is its own
    assert store.by_key("k") == first
    assert store.by_key("other") is None
    store.close()


def test_of_two_moves_at_once_one_succeeds(path: Path) -> None:
    store = made(path)
    before = store.insert(job())
    told: list[str] = []
    barrier = threading.Barrier(8)

    def move(number: int) -> None:
        barrier.wait()
        try:
            store.replace(before, before.moved(State.RUNNING, reason=str(number)))
            told.append("moved")
        except Changed:
            told.append("changed")

    threads = [threading.Thread(target=move, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["changed"] * 7 + ["moved"]
    store.close()


def test_moves_that_are_not_allowed_are_a_bug() -> None:
    with pytest.raises(ValueError, match="queued cannot become done"):
        job().moved(State.DONE)


def test_the_queue_goes_by_priority_then_age(path: Path) -> None:
    store = made(path)
    ids: list[str] = []
    for priority in (0, 5, 0, -5, 5):
        ids.append(store.insert(job(ids[-1] if ids else None, priority=priority)).id)
    assert store.queued() == [ids[1], ids[4], ids[0], ids[2], ids[3]]
    store.close()


def test_only_its_user_can_read_it(path: Path) -> None:
    store = made(path)
    store.insert(job())
    for file in path.parent.glob("queue.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    store.close()


def test_a_full_disk_changes_nothing(path: Path) -> None:
    store = made(path)
    first = store.insert(job())
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count = {pages}")
    large = job(first.id, arguments=["x" * 100_000])
    with pytest.raises(DiskFull, match="is whole"):
        store.insert(large)
    store._database.execute("PRAGMA max_page_count = 1000000")
    assert store.get(first.id) == first
    assert store.insert(large) == large
    store.close()


def _second(database: sqlite3.Connection) -> None:
    database.execute("ALTER TABLE jobs ADD COLUMN colour TEXT")


def _broken(database: sqlite3.Connection) -> None:
    database.execute("ALTER TABLE jobs ADD COLUMN colour TEXT")
    database.execute("ALTER TABLE nothing ADD COLUMN colour TEXT")


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        found: int = database.execute("PRAGMA user_version").fetchone()[0]
    return found


def test_an_older_one_is_migrated_after_a_copy(path: Path) -> None:
    store = made(path)
    kept = store.insert(job())
    store.close()
    store = made(path, _second)
    assert store.get(kept.id) == kept
    store.close()
    (copy,) = (path.parent / "backup").iterdir()
    assert (version(path), version(copy)) == (2, 1)
    copied = Store(copy, path.parent / "backup")
    assert copied.get(kept.id) == kept
    copied.close()
    with pytest.raises(RunError, match="is of version 2"):
        made(path)


def test_a_migration_that_fails_leaves_it_as_it_was(path: Path) -> None:
    store = made(path)
    kept = store.insert(job())
    store.close()
    with pytest.raises(RunError):
        made(path, _broken)
    assert version(path) == 1
    store = made(path)
    assert store.get(kept.id) == kept
    store.close()


def test_a_damaged_one_is_told_and_can_be_set_aside(path: Path) -> None:
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(Damaged):
        made(path)
    aside = set_aside(path, path.parent / "backup")
    assert aside.read_bytes().startswith(b"this is no")
    made(path).close()


def test_ids_sort_by_submission_whatever_the_clock_does() -> None:
    ids = [new_id(1.8e9, None)]
    for now in (1.8e9, 1.7e9, 1.8e9 - 86400, 1.9e9):
        ids.append(new_id(now, ids[-1]))
    assert ids == sorted(set(ids))
    assert {len(id_) for id_ in ids} == {12}
