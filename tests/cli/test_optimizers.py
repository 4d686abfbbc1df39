"""`autoopt optimizers` for people, programs and the documentation."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from autoopt.cli.main import run
from autoopt.optim import registry

ROOT = Path(__file__).parents[2]


def test_piped_it_is_tab_separated(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["optimizers"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0][0] == "name"
    assert [row[0] for row in rows[1:]] == registry.names()
    assert {len(row) for row in rows} == {7}


def test_on_a_terminal_it_is_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["optimizers"]) == 0
    out = capsys.readouterr().out
    assert "\t" not in out
    assert all(name in out for name in registry.names())


def test_what_is_missing_says_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.8.0" if name == "torch" else real(name))
    assert run(["optimizers", "--json"]) == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["muon"]["available"] is False
    assert found["muon"]["reason"] == "torch 2.8.0 is too old, it comes with 2.9"
    assert found["adamw"]["available"] is True
    assert found["adamw"]["space"]["lr"] == {"low": 1e-5, "high": 0.1, "scale": "log"}


def test_the_documentation_has_the_present_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["optimizers", "--markdown"]) == 0
    assert capsys.readouterr().out in (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")
