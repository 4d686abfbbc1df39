from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from autoopt.errors import UserCodeError, WorkerError
from autoopt.memory.answer import MemoryRequest
from autoopt.memory.predict import predict
from autoopt.trials import ask_memory
from autoopt.trials.ask_memory import ask
from tests.workload.files import PLAIN, write


def request(target: str) -> MemoryRequest:
    return MemoryRequest(target=target, optimizers=["adamw", "sgd"], kind="cpu", capacity_bytes=10**9)


def test_the_answer_comes_from_another_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    answer = ask(request(write(tmp_path, PLAIN + "\nprint('noise')\n")), progress=said.append)
    assert [row.optimizer for row in answer.optimizers] == ["adamw", "sgd"]
    assert all(row.source == "fake-tensor trace" for row in answer.optimizers)
    assert "tracing the step of sgd" in said
    assert capfd.readouterr().out == ""


@pytest.mark.long
def test_two_processes_answer_as_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["sgd", "adamw", "nadam", "radam"]
    asked = request(write(tmp_path, PLAIN)).model_copy(update={"optimizers": names})

    monkeypatch.setattr(ask_memory, "cpu_slots", lambda: 2)
    said: list[str] = []
    both = ask(asked, progress=said.append)
    assert said.count("building the model without its weights") == 2
    assert both.model_copy(update={"seconds": 0.0}) == predict(asked).model_copy(update={"seconds": 0.0})
    assert [row.optimizer for row in both.optimizers] == names


def test_an_error_keeps_its_class_and_place(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError) as caught:
        ask(request(write(tmp_path, PLAIN + "\nraise KeyError('of mine')\n")))
    assert "of mine" in caught.value.message
    assert "model.py" in caught.value.trace


def test_a_process_that_dies_is_told(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="signal 9"):
        ask(request(write(tmp_path, PLAIN + "\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")))


def test_one_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    child = "[sys.executable, '-c', 'import time; time.sleep(1000)  # mine']"
    hangs = f"\nimport subprocess, sys, time\nsubprocess.Popen({child})\ntime.sleep(1000)\n"
    begin = time.monotonic()
    with pytest.raises(WorkerError, match="longer than 4 s"):
        ask(request(write(tmp_path, PLAIN + hangs)), timeout=4)
    assert time.monotonic() - begin < 15
    deadline = time.monotonic() + 5
    while any("# mine" in " ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])):
        assert time.monotonic() < deadline
        time.sleep(0.05)
