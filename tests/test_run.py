from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autoopt.errors import RunError
from autoopt.journal import replay
from autoopt.records import Noted, Outcome, TrialFinished, TrialResult, TrialSpec
from autoopt.run import Run


def note(text: str) -> Noted:
    return Noted(at=0.0, text=text)


def test_events_come_back_in_order(tmp_path: Path) -> None:
    with Run.create(tmp_path / "out") as run:
        run.append(note("one"))
        run.append(note("two\nlines"))
        assert run.events() == [note("one"), note("two\nlines")]
        assert run.moved is None
        assert run.events_file == tmp_path / "out" / "events.jsonl"
        assert {p.parent for p in (run.recommendation, run.script, run.report, run.logs)} == {run.folder}


def test_going_on_appends(tmp_path: Path) -> None:
    with Run.create(tmp_path) as run:
        run.append(note("one"))
    with Run.open(tmp_path) as run:
        assert run.dropped_bytes == 0
        run.append(note("two"))
    assert replay(tmp_path) == [note("one"), note("two")]


def test_a_torn_last_line_is_cut_off_before_appending(tmp_path: Path) -> None:
    with Run.create(tmp_path) as run:
        run.append(note("one"))
    with run.events_file.open("ab") as stream:
        stream.write(b'{"kind": "noted", "a\xc3')
    with Run.open(tmp_path) as run:
        assert run.dropped_bytes == 21
        run.append(note("two"))
    assert replay(tmp_path) == [note("one"), note("two")]


def test_a_damaged_line_in_the_middle_is_refused_and_the_folder_let_go(tmp_path: Path) -> None:
    with Run.create(tmp_path) as run:
        run.append(note("one"))
    content = run.events_file.read_bytes()
    run.events_file.write_bytes(b"junk\n" + content)
    with pytest.raises(RunError, match="line 1 is damaged"):
        Run.open(tmp_path)
    run.events_file.write_bytes(content)
    Run.open(tmp_path).close()


@pytest.mark.parametrize("begun", [False, True])
def test_nothing_to_resume(tmp_path: Path, begun: bool) -> None:
    if begun:
        Run.create(tmp_path / "out").close()
    with pytest.raises(RunError, match="no run to resume"):
        Run.open(tmp_path / "out")


def ended(number: int) -> TrialFinished:
    """A trial that ended: something to keep."""
    spec = TrialSpec(id=number, stage="screen", optimizer="adamw", hyper={}, steps=1, seed=0)
    return TrialFinished(at=0.0, result=TrialResult(spec=spec, outcome=Outcome.DIVERGED))


def test_a_run_in_which_no_trial_ended_is_replaced(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with Run.create(tmp_path / "out") as run:
            run.append(note(text))
            assert run.moved is None
    assert replay(tmp_path / "out") == [note("two")]


def test_an_old_run_is_moved_aside(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in range(3):
        with Run.create(out) as run:
            run.append(ended(number))
            run.script.write_text(f"# {number}")
            assert run.moved == (out.with_name(f"out.{number}") if number else None)
    assert replay(out) == [ended(2)]
    assert replay(tmp_path / "out.1") == [ended(0)]
    assert (tmp_path / "out.2" / "train.py").read_text() == "# 1"
    with Run.open(tmp_path / "out.1") as old:
        old.append(note("an old run can be resumed"))


def test_the_users_own_files_are_never_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Run.create(tmp_path / "out") as run:
        run.append(ended(1))
    model = tmp_path / "out" / "model.py"
    with pytest.raises(RunError, match=r"model\.py with it"):
        Run.create(tmp_path / "out", stay=[model])
    monkeypatch.chdir(tmp_path / "out")
    with pytest.raises(RunError, match="would move aside"):
        Run.create(".")
    assert replay(tmp_path / "out") == [ended(1)]


def test_a_train_script_that_is_not_ours_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("mine")
    with pytest.raises(RunError, match=r"train\.py is there already"):
        Run.create(tmp_path)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(RunError, match="could not be written"):
        Run.create(tmp_path / "out")


def test_a_second_opening_is_refused(tmp_path: Path) -> None:
    with Run.create(tmp_path) as run:
        run.append(note("one"))
        for again in (Run.open, Run.create):
            with pytest.raises(RunError, match=f"in use by process {os.getpid()} since"):
                again(tmp_path)
    Run.open(tmp_path).close()


HOLDS = """
import sys, time
from autoopt.run import Run
from autoopt.records import Noted
run = Run.create(sys.argv[1])
run.append(Noted(at=0.0, text="from the other process"))
print("ready", flush=True)
sys.stdin.read()
"""


def test_another_process_is_refused_until_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(RunError, match=f"in use by process {other.pid} since"):
            Run.open(tmp_path / "out")
        other.send_signal(signal.SIGKILL)
        other.wait()
    with Run.open(tmp_path / "out") as run:
        assert run.events() == [note("from the other process")]


def test_a_full_disk_while_appending_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with Run.create(tmp_path) as run:
        run.append(note("one"))

        def half(stream: int, data: bytes) -> int:
            if len(data) < 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(stream, bytes(data[: len(data) // 2]))

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half)
            with pytest.raises(RunError, match="disk is full"):
                run.append(note("a line that only half fits"))
        run.append(note("two"))
    assert replay(tmp_path) == [note("one"), note("two")]


def test_an_interrupt_in_the_middle_of_a_line_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(stream: int, data: bytes) -> int:
        os.pwrite(stream, bytes(data[:5]), 0)
        raise KeyboardInterrupt

    with Run.create(tmp_path) as run:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run.append(note("one"))
        run.append(note("two"))
    assert replay(tmp_path) == [note("two")]
