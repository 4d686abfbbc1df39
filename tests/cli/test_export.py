"""`autoopt export`: several targets at once, what is said, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoopt.cli.main import run
from tests.export import runs


def test_says_where_everything_went_and_how_to_look_at_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs.write(tmp_path / "digits")
    database = f"sqlite:///{tmp_path / 'study.db'}"
    assert run(["export", str(folder), "--optuna", database, "--csv", str(tmp_path / "t.csv")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"digits: {len(runs.results())} trials"
    assert said[1].startswith(f"  {tmp_path / 't.csv'}: {len(runs.results())} rows; ")
    assert said[2].endswith(f"look: optuna-dashboard {database}")


def test_json_says_what_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs.write(tmp_path / "digits")
    assert run(["export", str(folder), "--csv", str(tmp_path / "t.csv"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["run"], told["state"], told["trials"]) == ("digits", "finished", len(runs.results()))
    assert [one["target"] for one in told["written"]] == ["csv"]
    assert Path(told["written"][0]["curves"]).is_file()


def test_a_mistake_has_a_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs.write(tmp_path / "digits")
    assert run(["export", str(folder)]) == 2
    assert "--optuna, --mlflow" in capsys.readouterr().err
    assert run(["export", str(tmp_path / "nowhere"), "--csv", "t.csv"]) == 4
    assert "There is no run in" in capsys.readouterr().err
