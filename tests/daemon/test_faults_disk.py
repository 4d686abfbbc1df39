"""Disks that fill up, and files that are torn, damaged, older, newer, or must not be written."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from autoopt.daemon.jobs import Job
from autoopt.records import Noted
from tests.daemon.daemons import Place, Refused, fill, until

pytestmark = pytest.mark.long

FULL = """
if not pathlib.Path(do["space"]).exists():
    print('{"error": {"kind": "DiskFull", "message": "The disk is full", "hint": "", "exit_code": 4}}')
    sys.exit(4)
"""


def test_a_submit_on_a_full_disk_is_refused_and_harms_nothing(place: Place, disk: Path) -> None:
    daemon = place.serve()
    before = daemon.submit()
    daemon.end(before)
    ballast = fill(disk)
    with pytest.raises(Refused) as refused:
        daemon.submit()
    assert refused.value.kind == "DiskFull"
    assert daemon.ask("health")["status"] in ("ok", "degraded")
    assert [job["id"] for job in daemon.ask("jobs")] == [before]
    assert [path.name for path in (disk / "jobs").iterdir()] == [before]
    ballast.unlink()
    assert daemon.end(daemon.submit())["state"] == "done"
    place.sound(daemon)


def test_a_job_that_ends_on_a_full_disk_is_done_when_there_is_space(place: Place, disk: Path) -> None:
    daemon = place.serve()
    started, go = place.folder / "started", place.folder / "go"
    code = "(out / 'recommendation.yaml').write_text('complete: true\\n')"
    # The result is there already: what a full disk must not take is that it is known.
    id_ = daemon.submit(f"touch={started}", f"code={code}; await_file('{go}'); os._exit(0)")
    until(started.exists)
    ballast = fill(disk)
    go.touch()
    until(lambda: not place.processes())
    assert daemon.ask("health")["pid"] == daemon.process.pid
    ballast.unlink()
    assert daemon.end(id_)["state"] == "done"
    place.sound(daemon)


def test_a_run_that_found_the_disk_full_goes_on_when_there_is_space(place: Place) -> None:
    daemon = place.serve()
    space = place.folder / "space"
    id_ = daemon.submit(f"space={space}", f"code={FULL}")
    until(lambda: len(place.attempts(id_)) >= 2)
    assert daemon.job(id_)["deaths"] == 0
    space.touch()
    assert daemon.end(id_)["state"] == "done"
    place.sound(daemon)


def test_nothing_starts_while_the_disk_is_nearly_full(place: Place) -> None:
    place.limits["free"] = 1 << 60
    daemon = place.serve()
    id_ = daemon.submit()
    until(lambda: "waits for space on the disk" in daemon.job(id_)["reason"])
    assert daemon.state(id_) == "queued"
    place.sound(daemon)


@pytest.mark.parametrize("damage", ["overwritten", "not a database", "cut"])
def test_a_damaged_queue_is_kept_aside_and_rebuilt_from_the_folders(place: Place, damage: str) -> None:
    daemon = place.serve()
    done = daemon.submit()
    daemon.end(done)
    waiting = daemon.submit(f"wait={place.folder / 'go'}")
    until(lambda: daemon.state(waiting) == "running")
    daemon.stop()
    path = place.home / "queue.db"
    content = path.read_bytes()
    if damage == "overwritten":
        path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2 + 100])
    else:
        path.write_bytes(b"these are not the pages of a database, but some words" * 100)
    (place.folder / "go").touch()
    daemon = place.serve()
    assert daemon.state(done) == "done"
    assert daemon.end(waiting)["state"] == "done"
    kept = list((place.home / "backup").glob("queue-damaged-*.db"))
    assert len(kept) == 1
    assert any(str(kept[0]) in note for note in daemon.ask("health")["notes"])
    assert "rebuilt" in daemon.errors.read_text()
    place.sound(daemon)


def test_a_queue_that_is_gone_is_rebuilt(place: Place) -> None:
    daemon = place.serve()
    id_ = daemon.submit()
    daemon.end(id_)
    daemon.stop()
    (place.home / "queue.db").unlink()
    (place.home / "jobs" / "broken").mkdir()
    (place.home / "jobs" / "broken" / "job.json").write_text('{"id": "bro')
    daemon = place.serve()
    assert [job["id"] for job in daemon.ask("jobs")] == [id_]
    assert daemon.state(id_) == "done"
    assert (place.home / "backup" / "job-broken" / "job.json").exists()
    place.sound(daemon)


def test_a_submit_that_was_cut_off_leaves_nothing(place: Place) -> None:
    daemon = place.serve()
    kept = daemon.submit()
    daemon.end(kept)
    daemon.stop()
    (place.home / "jobs" / "000000000000" / "project").mkdir(parents=True)
    (place.home / "uploads" / "half").mkdir()
    daemon = place.serve()
    assert [path.name for path in (place.home / "jobs").iterdir()] == [kept]
    assert not list((place.home / "uploads").iterdir())
    place.sound(daemon)


def test_a_torn_guards_record_is_no_end(place: Place) -> None:
    daemon = place.serve()
    started = place.folder / "started"
    id_ = daemon.submit(f"touch={started}", f"wait={place.folder / 'go'}")
    until(started.exists)
    daemon.kill()
    until(lambda: not place.processes())
    record = place.job_folder(id_) / "guard.json"
    record.write_bytes(record.read_bytes()[:20])
    (place.folder / "go").touch()
    daemon = place.serve()
    assert daemon.end(id_)["state"] == "done"
    place.sound(daemon)


def test_a_job_whose_folder_is_spoilt_fails_and_the_others_go_on(place: Place) -> None:
    place.limits["free"] = 1 << 60
    daemon = place.serve()
    lost, cut, fine = daemon.submit(), daemon.submit(), daemon.submit()
    daemon.stop()
    shutil.rmtree(place.job_folder(lost))
    (place.job_folder(cut) / "snapshot.json").write_text('{"target": "/x')
    place.limits["free"] = 0
    daemon = place.serve()
    for id_ in (lost, cut):
        job = daemon.end(id_)
        assert (job["state"], job["attempts"]) == ("failed", 0)
        assert "copy of its code is lost" in job["reason"]
    assert daemon.end(fine)["state"] == "done"
    place.sound(daemon)


def test_a_locks_folder_that_cannot_be_used_is_told_and_harms_nothing(place: Place) -> None:
    (place.folder / "leases").write_text("no folder")
    daemon = place.serve()
    id_ = daemon.submit()
    until(lambda: "leased, cannot be used" in daemon.job(id_)["reason"])
    assert daemon.ask("health")["status"] == "degraded"
    (place.folder / "leases").unlink()
    assert daemon.end(id_)["state"] == "done"
    place.sound(daemon)


def test_damaged_events_are_kept_and_the_job_starts_anew(place: Place) -> None:
    daemon = place.serve()
    started = place.folder / "started"
    id_ = daemon.submit(f"touch={started}", f"wait={place.folder / 'go'}")
    until(started.exists)
    daemon.kill()
    until(lambda: not place.processes())
    events = place.job_folder(id_) / "out" / "events.jsonl"
    events.write_text(Noted(at=1.0, text="whole").model_dump_json() + "\nhalf of a l\n")
    (place.folder / "go").touch()
    daemon = place.serve()
    assert daemon.end(id_)["state"] == "done"
    kept = place.job_folder(id_) / "out.1" / "events.jsonl"
    assert kept.read_text().endswith("half of a l\n")
    assert any("line 2" in note and str(kept.parent) in note for note in daemon.ask("health")["notes"])
    place.sound(daemon)


def test_the_live_view_shows_what_stands_before_the_damage(place: Place) -> None:
    daemon = place.serve()
    id_ = daemon.submit()
    daemon.end(id_)
    events = place.job_folder(id_) / "out" / "events.jsonl"
    events.write_text(Noted(at=1.0, text="whole").model_dump_json() + "\nhalf of a l\n")
    notes = daemon.ask("live", id_)["notes"]
    assert notes[0] == "whole"
    assert "damaged" in notes[1]


def test_a_newer_state_folder_is_refused_and_left_as_it_is(place: Place) -> None:
    daemon = place.serve()
    daemon.end(daemon.submit())
    daemon.stop()
    with closing(sqlite3.connect(place.home / "queue.db")) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(Refused, match="version 99"):
        place.serve()
    with closing(sqlite3.connect(place.home / "queue.db")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (99,)


def test_a_read_only_home_is_refused(place: Place, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(Refused, match="could not be written"):
        place.serve()


def test_a_home_that_becomes_read_only_takes_nothing_in_until_it_is_not(place: Place, disk: Path) -> None:
    daemon = place.serve()
    jobs = str(disk / "jobs")
    subprocess.run(["mount", "--bind", jobs, jobs], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", jobs], check=True)
        with pytest.raises(Refused, match="Read-only"):
            daemon.submit()
        assert daemon.ask("health")["status"] == "ok"
    finally:
        subprocess.run(["umount", "-l", jobs], check=True)
    assert daemon.end(daemon.submit())["state"] == "done"
    place.sound(daemon)


def test_a_second_daemon_is_refused_by_name(place: Place) -> None:
    daemon = place.serve()
    with pytest.raises(Refused) as refused:
        place.serve()
    assert refused.value.kind == "HomeInUse"
    assert f"process {daemon.process.pid}" in refused.value.message
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.kill()
    place.sound(place.serve())


def test_the_folder_tells_a_jobs_end(place: Place) -> None:
    daemon = place.serve()
    id_ = daemon.submit()
    daemon.end(id_)
    path = place.job_folder(id_) / "job.json"
    assert until(lambda: Job.model_validate_json(path.read_text()).state == "done")
