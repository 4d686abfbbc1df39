"""`autoopt show`: the same report again, from the folder or the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from autoopt.cli import show
from autoopt.errors import RunError
from autoopt.files import plain
from tests.report import factory


def run(*arguments: str) -> object:
    app = typer.Typer(callback=lambda: None)
    show.register(app)
    return app(["show", *arguments], standalone_mode=False)


@pytest.mark.parametrize("name", [".", "recommendation.yaml"])
def test_shows_a_folder_or_its_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    factory.recommendation().save(tmp_path)
    assert run(str(tmp_path / name)) == 0
    out = capsys.readouterr().out
    assert out.startswith("against yours: loss 0.1522 -> 0.1184")
    assert str(tmp_path) in out.replace("\n", "")


def test_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rec = factory.recommendation()
    rec.save(tmp_path)
    assert run(str(tmp_path), "--json") == 0
    assert json.loads(capsys.readouterr().out) == plain(rec)


def test_what_is_no_recommendation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        run(str(tmp_path / "nowhere"))
    (tmp_path / "train.py").touch()
    with pytest.raises(RunError, match=r"train\.py is no recommendation"):
        run(str(tmp_path / "train.py"))


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"recommendation\.yaml"):
        run(str(tmp_path))
