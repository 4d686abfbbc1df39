"""`autoopt policies` lists and explains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoopt import policy
from autoopt.cli.main import run


def test_the_list_explains_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policies"]) == 0
    out = capsys.readouterr().out
    for one in policy.shipped():
        assert f"{one.name}\n  {one.explain.strip()}" in out


def test_one_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policies", "fastest"]) == 0
    out = capsys.readouterr().out
    assert "Objective: loss at time" in out
    assert "step time 1.5x" in out
    assert "Tuned too: clip only where the first gradients spike" in out
    row = next(line for line in out.splitlines() if line.startswith("sgd\t")).split("\t")
    assert row == [
        "sgd",
        "0.05",
        "0.0001 .. 3",
        "momentum 0.9, weight_decay 0.0005",
        "momentum, weight_decay",
    ]


def test_a_candidate_that_is_not_installed_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "schema: autoopt-policy/1\nname: mine\ncandidates:\n  bitsandbytes:Lion8bit:\n", encoding="utf-8"
    )
    assert run(["policies", str(mine)]) == 0
    assert "bitsandbytes:Lion8bit cannot be used" in capsys.readouterr().out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policies", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [policy.Policy.model_validate(one) for one in found] == policy.shipped()
    assert run(["policies", "quick", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "autoopt-policy/1"


def test_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policies", "quik"]) == 2
    assert "Did you mean quick?" in capsys.readouterr().err
