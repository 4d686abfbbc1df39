"""`autoopt export`: several targets at once, what is said, and what is refused."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from autoopt.cli.main import run
from tests.export import runs

DOCS = Path(__file__).resolve().parents[2] / "docs"


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


def commands() -> list[str]:
    block = re.search(r"^```bash\n(.*?)^```", (DOCS / "export.md").read_text(), re.MULTILINE | re.DOTALL)
    assert block
    return block[1].splitlines()


@pytest.mark.long(seconds=60)
def test_the_commands_of_the_page_run_one_after_another(tmp_path: Path) -> None:
    runs.write(tmp_path / "autoopt-out" / "model")
    needs = {"--mlflow": "mlflow", "--parquet": "pyarrow", "--tensorboard": "tensorboard"}
    for command in commands():
        words = shlex.split(command)
        assert words[:2] == ["autoopt", "export"]
        if any(option in words and find_spec(package) is None for option, package in needs.items()):
            continue
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, done.stderr) == (0, ""), command
    assert {"trials.csv", "trials-curves.csv", "study.db"} <= {path.name for path in tmp_path.iterdir()}
    assert json.loads(done.stdout)["run"] == "model"


def test_the_page_of_the_notebook_shows_a_cell_of_the_example() -> None:
    block = re.search(r"^```python\n(.*?)^```", (DOCS / "notebook.md").read_text(), re.MULTILINE | re.DOTALL)
    assert block
    example = json.loads((DOCS.parent / "examples" / "notebook.ipynb").read_text())
    assert block[1].strip() in ["".join(cell["source"]) for cell in example["cells"]]
