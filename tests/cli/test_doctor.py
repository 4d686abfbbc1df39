"""`autoopt doctor`: the real command on this machine, and what it prints and returns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoopt.cli.main import run
from autoopt.daemon.jobs import Submission
from autoopt.hardware import diagnosis
from autoopt.hardware.diagnosis import Finding
from tests.daemon.listening import listening


def found(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    monkeypatch.setattr(diagnosis, "examine", lambda: list(findings))
    monkeypatch.setenv("AUTOOPT_HOME", "/nowhere")


def test_the_real_machine_is_able_and_says_so_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["able"] is True
    assert {one["section"] for one in told["findings"]} >= {"versions", "machine", "GPUs", "torch", "disk"}
    assert all(one["mend"] for one in told["findings"] if one["state"] != "ok")


def test_notes_leave_the_exit_code_at_zero(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found(monkeypatch, Finding("a", "b", "c"), Finding("a", "d", "little", "note", "Make it more."))
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert (
        out
        == "a\n  b: c\n! d: little\n    Make it more.\n\nautoopt can run here, with 1 thing to know (!).\n"
    )


def test_what_is_broken_is_named_and_makes_it_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found(monkeypatch, Finding("versions", "torch", "not installed", "broken", "pip install torch"))
    assert run(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "X torch: not installed\n    pip install torch" in out
    assert out.endswith("autoopt cannot run here: mend torch (X).\n")
    assert run(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["able"] is False


def test_the_daemon_is_told_of_where_there_has_been_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found(monkeypatch)
    monkeypatch.setenv("AUTOOPT_HOME", str(tmp_path / "home"))
    with listening(tmp_path, tcp=False) as server:
        server.service.health = lambda: {"pid": 7, "home": "/h", "trouble": ["no space"]}  # type: ignore[method-assign]
        server.home.database.touch()
        server.service.submit(Submission(target="model.py"))
        assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "  state: process 7 serves /h: 0 running, 1 waiting\n! trouble: no space\n" in out
    assert run(["doctor"]) == 0
    assert "not running; `autoopt serve` goes on" in capsys.readouterr().out
