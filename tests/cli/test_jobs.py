"""`autoopt jobs`, `watch`, `logs`, `result`, `cancel`, `retry`, on a service in memory."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoopt.cli import following
from autoopt.cli import jobs as commands
from autoopt.cli.main import run
from autoopt.daemon.jobs import Job, State, Submission
from autoopt.files import plain
from tests.daemon.fakes import FakeService
from tests.daemon.listening import Listening, listening
from tests.report import factory


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    monkeypatch.setattr(following, "_PAUSE", 0.02)
    monkeypatch.setattr(commands, "_PAUSE", 0.02)
    with listening(tmp_path, tcp=False) as found:
        monkeypatch.setenv("AUTOOPT_HOME", str(found.home.path))
        found.service.result = lambda id_: plain(factory.recommendation())  # type: ignore[method-assign]
        found.service.health = lambda: {"home": str(found.home.path)}  # type: ignore[method-assign]
        yield found


@pytest.fixture
def job(server: Listening) -> Job:
    return server.service.submit(Submission(target="model.py", name="a\x1b[31m\nb"))


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def end(server: Listening, job: Job, *states: State, **changes: Any) -> None:
    server.service.move(job.id, *states, **changes)


def test_the_list_says_how_the_cluster_is(
    server: Listening, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = {
        "uuid": "cluster:x",
        "kind": "cluster",
        "name": "cluster at head:6379 (x)",
        "trouble": "",
        "total": 4,
        "used": 3,
        "free": 0,
        "machines": [{}],
        "others": ["1 place taken by others"],
    }
    server.service.devices = lambda: [kind]  # type: ignore[method-assign]
    end(server, job, State.RUNNING, devices=["cluster:x"], places=3)
    assert run(["jobs"]) == 0
    out = capsys.readouterr().out
    assert "cluster (3 places)" in out
    last = "cluster at head:6379 (x): 1 machine, 3 of 4 places used, 0 free, 1 place taken by others"
    assert out.splitlines()[-1] == last
    kind["trouble"] = "no answer"
    assert run(["jobs"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "cluster at head:6379 (x): not there: no answer"
    assert run(["jobs", "--json"]) == 0
    assert told(capsys)["cluster"][0]["uuid"] == "cluster:x"


def test_the_list(server: Listening, job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    other = server.service.submit(Submission(target="b.py"))
    end(server, other, State.CANCELLED, reason="it was cancelled")
    assert run(["jobs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3  # a name cannot break its line
    assert lines[1].split("\t")[:3] == [other.id, "cancelled", "b.py"]
    assert lines[2].split("\t")[2] == "a\\x1b[31m\\nb"
    assert run(["jobs", "--json", "--state", "queued"]) == 0
    assert [found["id"] for found in told(capsys)["jobs"]] == [job.id]
    assert run(["jobs", "--state", "gone"]) == 2
    assert "queued, running" in capsys.readouterr().err


def test_cancel_and_retry(server: Listening, job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cancel", job.id]) == 0
    assert capsys.readouterr().out == f"Job {job.id} is cancelled.\n"
    assert run(["cancel", job.id, "--json"]) == 0
    assert told(capsys)["state"] == "cancelled"
    assert run(["retry", job.id, "--json"]) == 0
    assert told(capsys)["state"] == "queued"
    assert run(["retry", job.id]) == 4
    assert run(["retry", "abcdefghijkl"]) == 2
    assert "`autoopt jobs` lists them" in capsys.readouterr().err


@pytest.mark.parametrize("id_", ["../../x", "a/b", "x?y", "x#y", "%2e%2e", "é", "", " "])
def test_an_id_becomes_no_other_path(id_: str, server: Listening, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("watch", "logs", "result", "cancel", "retry"):
        assert run([command, id_, "--json"]) == 2
        assert told(capsys)["error"]["kind"] == "NoSuchJob"


def test_the_log(server: Listening, job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["logs", job.id]) == 0
    assert capsys.readouterr().out.startswith("hello\n")
    assert run(["logs", job.id, "--json", "--tail", "3"]) == 0
    assert told(capsys) == {"id": job.id, "log": "t>\n"}


def test_a_log_is_followed_to_its_end(
    server: Listening, job: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = [""]

    def grow() -> None:
        for number in range(20):
            text[0] += f"line {number}\n"
            time.sleep(0.01)
        end(server, job, State.RUNNING, State.DONE)

    server.service.log = lambda id_, tail=0: text[0]  # type: ignore[method-assign]
    thread = threading.Thread(target=grow)
    thread.start()
    assert run(["logs", job.id, "--follow"]) == 0
    thread.join()
    assert capsys.readouterr().out == text[0]


def test_what_was_added_to_a_log_whose_begin_is_gone() -> None:
    assert commands._added("ab", "abc") == "c"
    assert commands._added("xxab", "abc") == "abc"
    assert commands._added("x" * 9000 + "y" * 5000, "y" * 5000 + "z") == "z"
    assert commands._added("", "abc") == "abc"


def test_watching_shows_the_result(server: Listening, job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    live, looks = server.service.live, itertools.count(1)

    def looked(id_: str) -> dict[str, Any]:
        if next(looks) == 3:
            end(server, job, State.RUNNING, State.DONE, complete=True)
        return live(id_)

    server.service.live = looked  # type: ignore[method-assign]
    assert run(["watch", job.id]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("against yours: loss 0.1522 -> 0.1184")
    assert f"job {job.id}, queued" in shown.err
    assert run(["result", job.id, "--json"]) == 0
    found = told(capsys)
    assert found["recommendation"] == plain(factory.recommendation())["recommendation"]
    assert (found["id"], found["folder"]) == (job.id, str(server.home.path / job.folder / "out"))
    assert run(["watch", job.id, "--json"]) == 0
    out = capsys.readouterr()
    assert json.loads(out.out) == found
    assert out.err == ""


@pytest.mark.parametrize(
    ("states", "changes", "code"),
    [
        ((State.RUNNING, State.FAILED), {"error": {"message": "m", "hint": "h", "exit_code": 3}}, 3),
        ((State.RUNNING, State.FAILED), {"error": {"message": "m", "hint": "h", "exit_code": 5}}, 5),
        ((State.RUNNING, State.FAILED), {}, 4),
        ((State.RUNNING, State.SET_ASIDE), {"reason": "its process died twice"}, 6),
        ((State.CANCELLED,), {}, 130),
        ((State.RUNNING, State.DONE), {"complete": False}, 130),
        ((State.RUNNING, State.DONE), {"complete": True}, 0),
    ],
)
def test_exit_codes_are_those_of_profile(
    server: Listening, job: Job, states: tuple[State, ...], changes: dict[str, Any], code: int
) -> None:
    end(server, job, *states, **changes)
    assert run(["watch", job.id]) == code
    assert run(["watch", job.id, "--json"]) == code


def test_ctrl_c_leaves_the_job_running(
    server: Listening, job: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(following.time, "sleep", interrupt)
    assert run(["watch", job.id]) == 130
    assert f"Job {job.id} goes on" in capsys.readouterr().err
    assert server.service.job(job.id).state is State.QUEUED


def test_submit_and_profile_wait_for_the_result(
    server: Listening, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit = server.service.submit

    def ended(submission: Submission, bundle: Path | None = None) -> Job:
        found = submit(submission, bundle)
        return server.service.move(found.id, State.RUNNING, State.DONE, complete=True)

    server.service.submit = ended  # type: ignore[method-assign]
    for command in (["submit", "model.py", "--wait"], ["profile", "model.py", "--daemon"]):
        assert run([*command, "--json", "--steps", "5"]) == 0
        found = told(capsys)
        assert found["complete"] is True
        assert server.service.job(found["id"]).submission.options.steps == 5


def test_a_daemon_that_goes_away_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(following, "_PAUSE", 0.02)
    monkeypatch.setenv("AUTOOPT_HOME", str(tmp_path / "home"))
    codes: list[int] = []
    with listening(tmp_path, tcp=False) as first:
        job = first.service.submit(Submission(target="model.py"))
        thread = threading.Thread(target=lambda: codes.append(run(["watch", job.id])))
        thread.start()
        deadline = time.monotonic() + 30
        while not (shown := capsys.readouterr().err):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "queued" in shown
    time.sleep(0.1)
    second = FakeService()
    second.found[job.id] = job
    with listening(tmp_path, tcp=False, service=second):
        second.move(job.id, State.CANCELLED)
        thread.join(30)
    assert codes == [130]
    assert "trying again" in capsys.readouterr().err
