"""`autoopt snippet`: the code for one kind of project, from the folder or the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoopt.cli.main import run
from autoopt.cli.snippet import KINDS
from autoopt.report import snippets
from tests.report import factory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    factory.recommendation().save(tmp_path)
    return tmp_path


def test_prints_what_is_pasted_and_nothing_else(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["snippet", str(folder), "--for", "lightning"]) == 0
    assert capsys.readouterr().out == factory.recommendation().snippet("lightning")
    assert run(["snippet", str(folder / "recommendation.yaml")]) == 0
    assert capsys.readouterr().out == factory.recommendation().snippet()


def test_json_is_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["snippet", str(folder), "--for", "timm", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "timm"
    assert told["language"] == "python"
    assert told["text"] == factory.recommendation().snippet("timm")
    assert any("epochs" in sentence for sentence in told["differences"])


def test_mistakes_name_the_way_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["snippet", str(folder), "--for", "hidra"]) == 2
    assert "Did you mean hydra?" in capsys.readouterr().err
    assert run(["snippet", str(folder / "nowhere")]) == 4
    assert "does not exist" in capsys.readouterr().err


def test_the_help_names_every_kind() -> None:
    """It is written out, as importing the kinds would slow `autoopt --help`."""
    assert set(KINDS.replace(" or ", ", ").split(", ")) == set(snippets.KINDS)
