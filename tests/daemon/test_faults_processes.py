"""Processes that are killed, at every state: nothing that was acknowledged is lost, and nothing is left."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from autoopt.daemon import cgroups, orphans
from autoopt.daemon.home import Home
from tests.daemon.daemons import Daemon, Place, Refused, gone, until

pytestmark = pytest.mark.long

SPREAD = """
import subprocess, sys
for start in ([], ["setsid"]):
    subprocess.Popen([*start, "sleep", "1000"])
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)
"""
"""A runner that leaves processes about: in its group, in another session, and a grandchild that ignores SIGTERM."""


def running(place: Place, daemon: Daemon, *words: str) -> tuple[str, int]:
    """A job that runs until the file `go` is there: its id, and its runner's process."""
    started = place.folder / f"started-{len(words)}-{time.monotonic_ns()}"
    id_ = daemon.submit(f"touch={started}", f"wait={place.folder / 'go'}", *words)
    until(lambda: started.exists() and started.read_text())
    return id_, int(started.read_text())


def go(place: Place) -> None:
    (place.folder / "go").touch()


def guard_of(place: Place, pid: int) -> int:
    """The parent of a runner."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def groups_work() -> bool:
    """Whether this user may make control groups."""
    probe = cgroups.make(f"autoopt-probe-{os.getpid()}")
    if probe is not None:
        cgroups.end(probe)
    return probe is not None


def test_a_job_is_done_and_nothing_is_left(place: Place) -> None:
    daemon = place.serve()
    id_ = daemon.submit(f"code={SPREAD}")
    assert daemon.end(id_)["state"] == "done"
    place.sound(daemon)
    assert place.attempts(id_) == ["start"]


def test_an_acknowledged_submit_survives_kill_9(place: Place) -> None:
    daemon = place.serve()
    ids = [daemon.submit() for _ in range(5)]
    daemon.kill()
    daemon = place.serve()
    assert [daemon.end(id_)["state"] for id_ in ids] == ["done"] * 5
    place.sound(daemon)


def test_the_jobs_of_a_killed_daemon_end_within_5_seconds_and_go_on_later(place: Place) -> None:
    daemon = place.serve()
    id_, _ = running(place, daemon, f"code={SPREAD}")
    until(lambda: len(place.processes()) >= 5)
    daemon.kill()
    began = time.monotonic()
    until(lambda: not place.processes(), 5)
    assert time.monotonic() - began < 5
    assert place.is_free()

    go(place)
    daemon = place.serve()
    job = daemon.end(id_)
    assert (job["state"], job["attempts"], job["deaths"]) == ("done", 2, 0)
    assert place.attempts(id_) == ["start", "resume"]
    place.sound(daemon)


def test_a_new_daemon_waits_for_what_the_killed_one_left(place: Place) -> None:
    daemon = place.serve()
    id_, first = running(place, daemon)
    os.kill(guard_of(place, first), signal.SIGSTOP)  # so that it cannot end its job by itself
    daemon.kill()
    go(place)
    daemon = place.serve()
    assert gone(first)
    assert daemon.end(id_)["state"] == "done"
    place.sound(daemon)


def test_a_runner_that_is_killed_once_goes_on(place: Place) -> None:
    daemon = place.serve()
    id_, runner = running(place, daemon)
    os.kill(runner, signal.SIGKILL)
    until(lambda: place.attempts(id_) == ["start", "resume"])
    go(place)
    job = daemon.end(id_)
    assert (job["state"], job["attempts"], job["deaths"]) == ("done", 2, 1)
    place.sound(daemon)


@pytest.mark.parametrize(
    "death",
    ["os.kill(os.getpid(), 9)", "os.kill(os.getpid(), signal.SIGSEGV)", "os.abort()"],
    ids=["killed", "segfault", "abort"],
)
def test_a_job_that_kills_its_process_twice_is_set_aside(place: Place, death: str) -> None:
    daemon = place.serve()
    id_ = daemon.submit(f"code={SPREAD}\n{death}")
    job = daemon.end(id_)
    assert (job["state"], job["attempts"], job["deaths"]) == ("set_aside", 2, 2)
    assert "set aside" in job["reason"]
    assert job["error"]["hint"]
    place.sound(daemon)
    assert daemon.ask("retry", id_)["deaths"] == 0
    assert daemon.end(id_)["attempts"] == 4
    place.sound(daemon)


def test_a_guard_that_is_killed_takes_its_job_along(place: Place) -> None:
    daemon = place.serve()
    id_, runner = running(place, daemon, f"code={SPREAD}")
    os.kill(guard_of(place, runner), signal.SIGKILL)
    until(lambda: place.attempts(id_) == ["start", "resume"])
    assert gone(runner)
    go(place)
    job = daemon.end(id_)
    assert (job["state"], job["deaths"]) == ("done", 1)
    place.sound(daemon)


def test_a_process_that_hides_is_ended_with_its_job(place: Place) -> None:
    """It has left its session, its parent and its environment."""
    daemon = place.serve()
    pid_file = place.folder / "hidden"
    hide = f"subprocess.Popen(['env', '-i', 'setsid', '-f', 'sh', '-c', 'echo $$ > {pid_file}; exec sleep 1000'])"
    code = f"import subprocess; {hide}; await_file('{pid_file}')"
    id_ = daemon.submit(f"code={code}")
    assert daemon.end(id_)["state"] == "done"
    assert gone(int(pid_file.read_text()))
    place.sound(daemon)


@pytest.mark.skipif(not groups_work(), reason="no control group can be made here")
@pytest.mark.parametrize("daemon_too", [False, True], ids=["guard", "guard-and-daemon"])
def test_a_process_that_hides_does_not_outlive_a_killed_guard(place: Place, daemon_too: bool) -> None:
    daemon = place.serve()
    pid_file = place.folder / "hidden"
    hide = f"subprocess.Popen(['env', '-i', 'setsid', '-f', 'sh', '-c', 'echo $$ > {pid_file}; exec sleep 1000'])"
    code = f"import subprocess; how == 'start' and {hide}; await_file('{pid_file}')"
    id_, runner = running(place, daemon, f"code={code}")
    until(lambda: pid_file.exists() and pid_file.read_text())
    hidden = int(pid_file.read_text())
    guard = guard_of(place, runner)
    if daemon_too:
        daemon.process.send_signal(signal.SIGSTOP)  # so that it cannot see the guard's end
    os.kill(guard, signal.SIGKILL)
    if daemon_too:
        daemon.kill()
        assert not gone(hidden)
        daemon = place.serve()
    until(lambda: gone(hidden))
    go(place)
    assert daemon.end(id_)["state"] == "done"
    place.sound(daemon)
    until(lambda: not cgroups.left(orphans.group(Home(place.home).digest, "")))


@pytest.mark.parametrize("guard_too", [False, True], ids=["runner", "guard-and-runner"])
def test_daemon_and_runner_killed_together(place: Place, guard_too: bool) -> None:
    daemon = place.serve()
    id_, runner = running(place, daemon, f"code={SPREAD}")
    victims = [guard_of(place, runner)] if guard_too else []
    for pid in (daemon.process.pid, *victims, runner):
        os.kill(pid, signal.SIGKILL)
    daemon.kill()
    go(place)
    daemon = place.serve()
    assert not set(place.processes()) & {runner, *victims}
    assert daemon.end(id_)["state"] == "done"
    place.sound(daemon)


def test_two_deaths_count_over_restarts(place: Place) -> None:
    daemon = place.serve()
    id_, runner = running(place, daemon)
    os.kill(runner, signal.SIGKILL)
    until(lambda: place.attempts(id_) == ["start", "resume"])
    until(lambda: daemon.job(id_)["deaths"] == 1)
    daemon.kill()
    daemon = place.serve()
    second = until(lambda: len(place.attempts(id_)) == 3 and place.folder)
    assert second
    until(lambda: daemon.state(id_) == "running")
    for pid in place.processes():
        if "run.py" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    assert daemon.end(id_)["state"] == "set_aside"
    place.sound(daemon)


def test_a_job_that_was_being_cancelled_is_cancelled_after_a_restart(place: Place) -> None:
    daemon = place.serve()
    place.limits["grace"] = 30
    daemon.stop()
    daemon = place.serve()
    id_, _ = running(place, daemon, "code=signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    assert daemon.ask("cancel", id_)["state"] == "cancelling"
    daemon.kill()
    daemon = place.serve()
    assert daemon.state(id_) == "cancelled"
    place.sound(daemon)


def test_a_daemon_that_is_stopped_ends_its_jobs_and_they_go_on_later(place: Place) -> None:
    daemon = place.serve()
    id_, _ = running(place, daemon, f"code={SPREAD}")
    daemon.stop()
    assert daemon.process.returncode == 0
    assert not place.processes()
    go(place)
    daemon = place.serve()
    job = daemon.end(id_)
    assert (job["state"], job["deaths"], job["attempts"]) == ("done", 0, 2)
    place.sound(daemon)


def test_cancel_ends_a_runner_that_ignores_it(place: Place) -> None:
    daemon = place.serve()
    id_, _ = running(place, daemon, f"code=signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SPREAD}")
    daemon.ask("cancel", id_)
    assert daemon.ask("cancel", id_)["state"] in ("cancelling", "cancelled")
    assert daemon.end(id_)["state"] == "cancelled"
    place.sound(daemon)


def test_what_finishes_while_it_is_cancelled_is_done(place: Place) -> None:
    daemon = place.serve()
    finish = "signal.signal(signal.SIGTERM, lambda *_: pathlib.Path(do['wait']).touch())"
    id_, _ = running(place, daemon, f"code={finish}")
    daemon.ask("cancel", id_)
    job = daemon.end(id_)
    assert (job["state"], job["complete"]) == ("done", True)
    assert "finished when the cancel came" in job["reason"]
    place.sound(daemon)


def test_cancel_against_completion_leaves_one_answer(place: Place) -> None:
    daemon = place.serve()
    for pause in (0.0, 0.05, 0.1, 0.15, 0.2):
        id_ = daemon.submit()
        time.sleep(pause)
        try:
            daemon.ask("cancel", id_)
            refused = ""
        except Refused as error:
            refused = error.kind
        job = daemon.end(id_)
        assert refused in ("", "NotPossible")
        assert job["state"] in (("done",) if refused else ("done", "cancelled"))
    place.sound(daemon)


def test_a_loop_that_holds_on_to_everything(place: Place) -> None:
    daemon = place.serve()
    code = "for n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
    id_, _ = running(place, daemon, f"code={code}")
    daemon.ask("cancel", id_)
    assert daemon.end(id_)["state"] == "cancelled"
    place.sound(daemon)


MOVES = {
    "insert": ("", ""),
    "running": ("", ""),
    "done": ("", ""),
    "failed": ("code=sys.exit(3)", ""),
    "queued": ("code=how == 'start' and os.kill(os.getpid(), 9)", ""),
    "set_aside": ("code=os.kill(os.getpid(), 9)", ""),
    "cancelling": ("code=time.sleep(1000)", "cancel"),
    "cancelled": ("code=time.sleep(1000)", "cancel"),
}
"""Each move, what a runner does so that it comes, and what is asked."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("move", MOVES)
def test_kill_9_at_every_move(place: Place, when: str, move: str) -> None:
    word, asked = MOVES[move]
    words = [f"touch={place.folder / 'started'}", *([word] if word else [])]
    place.environment["TEST_DIE_AT"] = f"{when} {move}"
    daemon = place.serve()
    id_ = ""
    try:
        id_ = daemon.submit(*words, key="the job")
        if asked:
            until((place.folder / "started").exists)
            daemon.ask(asked, id_)
    except ConnectionError:
        assert move in ("insert", "cancelling", "cancelled", "running")
    until(lambda: not daemon.alive)
    daemon.kill()
    del place.environment["TEST_DIE_AT"]
    daemon = place.serve()
    # Who got no answer asks again; of both submits one becomes a job.
    again = daemon.submit(*words, key="the job")
    assert id_ in ("", again)
    assert [job["id"] for job in daemon.ask("jobs")] == [again]
    if asked and daemon.state(again) not in ("cancelling", "cancelled"):
        daemon.ask(asked, again)
    job = daemon.end(again)
    expected = {
        "failed": "failed",
        "set_aside": "set_aside",
        "cancelling": "cancelled",
        "cancelled": "cancelled",
    }
    assert job["state"] == expected.get(move, "done")
    assert len(place.attempts(again)) <= job["attempts"] <= 4
    place.sound(daemon)
