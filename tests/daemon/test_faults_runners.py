"""Runners that talk without end, read, escape, start badly; names of every kind; many at once; clocks that go back."""

from __future__ import annotations

import itertools
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autoopt.daemon.home import Home
from autoopt.daemon.jobs import Job, State, Submission
from autoopt.daemon.limits import Limits
from autoopt.daemon.service import Service
from autoopt.daemon.snapshot import Snapshot
from autoopt.hardware.leases import Leases
from tests.daemon.daemons import Place, Refused, until

pytestmark = pytest.mark.long


def disk_bytes(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("lines", [True, False], ids=["lines", "one-line"])
def test_what_a_runner_prints_without_end_fills_no_disk(place: Place, stream: str, lines: bool) -> None:
    daemon = place.serve()
    size = 64 << 20
    chunk = ("x" * 99 + "\\n") if lines else "x" * 100
    code = f"""
s = sys.{stream}
s.write('FIRST')
for _ in range({size} // 100000):
    s.write('{chunk}' * 1000)
s.write('LAST\\n')
s.flush()
"""
    id_ = daemon.submit(f"code={code}")
    assert daemon.end(id_)["state"] == "done"
    assert disk_bytes(place.job_folder(id_)) < 4 << 20
    if stream == "stderr":
        log = daemon.ask("log", id_, 1 << 22)
        assert log.startswith("FIRST")
        assert "bytes left out" in log
        assert log.endswith("LAST\n")
        assert len(daemon.ask("log", id_, 1000)) <= 1000
    place.sound(daemon)


def test_what_a_worker_prints_without_end_fills_no_disk(place: Place) -> None:
    daemon = place.serve()
    code = """
logs = out / "logs"
logs.mkdir()
with open(logs / "worker-0.log", "ab", buffering=0) as file:
    file.write(b"FIRST")
    for _ in range(64):
        file.write(b"x" * (1 << 20))
        time.sleep(0.005)
    while file.tell() and os.stat(logs / "worker-0.log").st_blocks * 512 > 9 << 20:
        time.sleep(0.01)
    file.write(b"LAST")
"""
    id_ = daemon.submit(f"code={code}")
    assert daemon.end(id_)["state"] == "done"
    assert disk_bytes(place.job_folder(id_)) < 10 << 20
    content = (place.job_folder(id_) / "out" / "logs" / "worker-0.log").read_bytes()
    assert content.startswith(b"FIRST")
    assert content.endswith(b"LAST")
    assert daemon.ask("log", id_).endswith("LAST")
    place.sound(daemon)


def test_reading_standard_input_finds_its_end(place: Place) -> None:
    daemon = place.serve()
    id_ = daemon.submit("code=assert sys.stdin.read() == ''")
    assert daemon.end(id_)["state"] == "done"
    place.sound(daemon)


def test_an_exit_code_is_the_jobs_end_and_not_tried_again(place: Place) -> None:
    daemon = place.serve()
    id_ = daemon.submit("code=sys.exit('out of ideas')")
    job = daemon.end(id_)
    assert (job["state"], job["attempts"], job["devices"]) == ("failed", 1, ["cpu"])
    assert "out of ideas" in job["error"]["message"]
    quiet = daemon.end(daemon.submit("code=os._exit(0)"))
    assert quiet["state"] == "failed"
    assert "without a recommendation" in quiet["reason"]
    place.sound(daemon)


def test_an_error_of_the_command_line_is_the_jobs(place: Place) -> None:
    daemon = place.serve()
    folder = place.home / "jobs"
    code = (
        "import json; print(json.dumps({'error': {'kind': 'UserCodeError', 'exit_code': 3, 'hint': 'mend it',"
        " 'message': 'it fails at ' + folder + '/project/model.py:3'}})); sys.exit(3)"
    )
    job = daemon.end(daemon.submit(f"code={code}"))
    assert (job["state"], job["attempts"], job["devices"]) == ("failed", 1, ["cpu"])
    # The user's own file is named, not its copy.
    assert job["error"] == {
        "kind": "UserCodeError",
        "message": f"it fails at {place.folder}/model.py:3",
        "hint": "mend it",
        "exit_code": 3,
    }
    assert str(folder) not in job["reason"]


def test_a_retry_of_a_failed_job_starts_anew(place: Place) -> None:
    daemon = place.serve()
    mended = place.folder / "mended"
    id_ = daemon.submit(f"code=if not pathlib.Path('{mended}').exists(): sys.exit(3)")
    assert daemon.end(id_)["state"] == "failed"
    mended.touch()
    assert daemon.ask("retry", id_)["state"] == "queued"
    assert daemon.end(id_)["state"] == "done"
    assert (place.job_folder(id_) / "out.1" / "attempts").exists()
    with pytest.raises(Refused) as refused:
        daemon.ask("retry", id_)
    assert refused.value.kind == "NotPossible"
    place.sound(daemon)


def test_memory_that_runs_out_takes_the_job_and_not_the_daemon(place: Place) -> None:
    daemon = place.serve()
    code = """
import resource

resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))
eaten = [bytearray(1 << 20) for _ in range(1000)]
"""
    job = daemon.end(daemon.submit(f"code={code}"))
    assert job["state"] == "failed"
    assert "MemoryError" in job["reason"]
    score = daemon.submit("code=assert open('/proc/self/oom_score_adj').read().strip() == '600'")
    assert daemon.end(score)["state"] == "done"
    place.sound(daemon)


def test_an_interpreter_or_folder_that_is_not_there(place: Place) -> None:
    daemon = place.serve()
    for more in ({"cwd": str(place.folder / "nowhere")}, {"interpreter": "/nowhere/python"}):
        with pytest.raises(Refused):
            daemon.submit(**more)
    with pytest.raises(Refused, match=r"missing.py does not exist"):
        daemon.submit(target="missing.py")
    with pytest.raises(Refused, match="null character"):
        daemon.submit("a\0b")
    with pytest.raises(Refused, match="cores"):
        daemon.submit(cores=1000)
    assert daemon.ask("jobs") == []


def test_a_working_folder_that_goes_away_fails_the_job(place: Place) -> None:
    place.limits["free"] = 1 << 60  # nothing starts
    daemon = place.serve()
    (place.folder / "cwd").mkdir()
    (place.folder / "cwd" / "model.py").touch()
    id_ = daemon.submit(cwd=str(place.folder / "cwd"))
    daemon.stop()
    (place.folder / "cwd" / "model.py").unlink()
    (place.folder / "cwd").rmdir()
    place.limits["free"] = 0
    daemon = place.serve()
    job = daemon.end(id_)
    assert job["state"] == "failed"
    assert "No such file or directory" in job["reason"]
    assert job["changed"] == ["model.py is gone"]
    place.sound(daemon)


NAMES = [
    "mödel ümlaut.py",
    "line\nbreak.py",
    "-rf.py",
    "a'b\"c$(x).py",
    "模型.py",
    "日本 語/模 型.py",
    "<script>.py",
]


def test_names_of_every_kind(place: Place) -> None:
    daemon = place.serve()
    ids = {}
    for name in NAMES:
        path = place.folder / "names" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        ids[name] = daemon.submit(f"name={name}", target=name, cwd=str(place.folder / "names"), name=name)
    for name, id_ in ids.items():
        job = daemon.end(id_)
        assert (job["state"], job["submission"]["name"]) == ("done", name)
    place.sound(daemon)


def test_100_submits_at_once(place: Place) -> None:
    place.limits["free"] = 1 << 60  # they wait, so that a kill finds them all
    daemon = place.serve()
    with ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(lambda n: daemon.submit(key=f"key {n % 50}"), range(100)))
    daemon.kill()
    daemon = place.serve()
    assert ids[:50] == ids[50:]
    assert {job["id"] for job in daemon.ask("jobs")} == set(ids)
    assert len(set(ids)) == len(list((place.home / "jobs").iterdir())) == 50
    place.sound(daemon)


def test_a_job_says_what_of_its_code_changed(place: Place) -> None:
    daemon = place.serve()
    (place.folder / "model.py").write_text("import helper\n")
    (place.folder / "helper.py").write_text("")
    (place.folder / "data.txt").write_text("data")
    go, started = place.folder / "go", place.folder / "started"
    id_ = daemon.submit(f"touch={started}", f"wait={go}")
    until(started.exists)
    (place.folder / "helper.py").write_text("x = 1")
    go.touch()
    assert daemon.end(id_)["changed"] == ["helper.py was edited"]
    project = place.job_folder(id_) / "project"
    assert (project / "helper.py").read_text() == ""
    assert (project / "data.txt").read_text() == "data"


def test_higher_priority_goes_first_and_a_wide_job_is_not_overtaken(place: Place) -> None:
    daemon = place.serve()
    cores = len(os.sched_getaffinity(0))
    go, started = place.folder / "go", place.folder / "started"
    first = daemon.submit(f"touch={started}", f"wait={go}", cores=None)
    until(started.exists)
    low = daemon.submit(priority=-5)
    wide = daemon.submit(cores=cores)
    high = daemon.submit(priority=5)
    until(lambda: "waits for" in daemon.job(high)["reason"])
    assert "another job was there first" in daemon.job(wide)["reason"] or "turn" in daemon.job(wide)["reason"]
    go.touch()
    ends = {id_: daemon.end(id_) for id_ in (first, low, wide, high)}
    assert ends[high]["started"] <= ends[wide]["started"] <= ends[low]["started"]
    place.sound(daemon)


def test_two_daemons_share_the_cores_of_the_machine(place: Place, tmp_path: Path) -> None:
    daemon = place.serve()
    go, started = place.folder / "go", place.folder / "started"
    daemon.submit(f"touch={started}", f"wait={go}", cores=None)
    until(started.exists)
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    other = Place(other_folder)
    other.environment = place.environment
    try:
        second = other.serve()
        id_ = second.submit()
        until(lambda: "it waits for a core" in second.job(id_)["reason"])
        go.touch()
        assert second.end(id_)["state"] == "done"
    finally:
        other.clean_up()
    place.sound(daemon)


def _trivial(job: Job, taken: Snapshot, folder: Path, *, resume: bool, device: str) -> list[str]:
    return [
        "/bin/sh",
        "-c",
        f"mkdir -p '{folder}/out'; echo 'complete: true' > '{folder}/out/recommendation.yaml'",
    ]


def test_a_clock_that_is_set_back_a_day_changes_no_order(place: Place, tmp_path: Path) -> None:
    day = 86400.0
    now = itertools.chain([1.8e9] * 4, itertools.count(1.8e9 - day, 1.0))
    service = Service(
        Home(place.home),
        devices="cpu",
        command=_trivial,
        leases=Leases(tmp_path / "leases"),
        clock=lambda: next(now),
        limits=Limits(free=0),
        say=lambda _: None,
    )
    service.start()
    try:
        ids = [
            service.submit(Submission(target="model.py", cwd=str(place.folder), cores=1)).id for _ in range(8)
        ]
        assert ids == sorted(ids)
        until(lambda: all(service.job(id_).state is State.DONE for id_ in ids))
        for id_ in ids:
            job = service.job(id_)
            assert job.created <= (job.started or 0) <= (job.ended or 0)
    finally:
        service.stop()


def test_updates_are_replayed_after_an_absence(place: Place, tmp_path: Path) -> None:
    service = Service(
        Home(place.home),
        devices="cpu",
        command=_trivial,
        leases=Leases(tmp_path / "leases"),
        limits=Limits(free=0),
        say=lambda _: None,
    )
    service.start()
    try:
        (reset,) = service.updates(None)
        assert (reset.kind, reset.data) == ("reset", {"jobs": []})
        service.submit(Submission(target="model.py", cwd=str(place.folder)))

        def states() -> list[str]:
            told = [update.data["state"] for update in service.updates(reset.id) if update.kind == "job"]
            return [state for state, _ in itertools.groupby(told)]

        until(lambda: "done" in states())
        assert states() == ["queued", "running", "done"]
        assert service.updates(service.hub.last) == []
        assert service.updates(1)[0].kind == "reset"
    finally:
        service.stop()


def test_a_stop_at_once_leaves_the_rest_to_the_guards(place: Place, tmp_path: Path) -> None:
    def endless(job: Job, taken: Snapshot, folder: Path, *, resume: bool, device: str) -> list[str]:
        return ["/bin/sleep", "1000"]

    service = Service(
        Home(place.home),
        devices="cpu",
        command=endless,
        leases=Leases(tmp_path / "leases"),
        limits=Limits(free=0),
    )
    service.start()
    id_ = service.submit(Submission(target="model.py", cwd=str(place.folder))).id
    until(lambda: service.job(id_).state is State.RUNNING and place.processes())
    began = time.monotonic()
    service.stop(drain=False)
    assert time.monotonic() - began < 1
    until(lambda: not place.processes(), 5)
    assert signal.getsignal(signal.SIGTERM) is not None
