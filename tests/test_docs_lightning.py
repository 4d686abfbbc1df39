"""Every program and command of docs/lightning.md, run as a user would: in an empty folder, as processes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from autoopt.records import Recommendation

pytest.importorskip("lightning")
ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "lightning.md").read_text(), re.S)


def run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (kind, task), *_ = BLOCKS
    assert (kind, task.splitlines()[0]) == ("python", "# task.py")
    (tmp_path / "task.py").write_text(task)
    return tmp_path


def test_every_block_is_tested_below() -> None:
    assert [kind for kind, _ in BLOCKS] == ["python", "bash", "python", "python"]


@pytest.mark.long
def test_the_command(folder: Path) -> None:
    command = shlex.split(BLOCKS[1][1])
    assert command[0] == "autoopt"
    own = command.index("--")
    run([sys.executable, "-m", *command[:own], "--out", "out", *command[own:]], folder)
    rec = Recommendation.load(folder / "out")
    assert rec.workload.kind == "lightning"
    assert rec.settings.steps == 48
    assert rec.settings.clip == 1.0
    assert rec.settings.metric == ("val_acc", "max")


@pytest.mark.long
def test_the_notebook(folder: Path) -> None:
    (folder / "cell.py").write_text(BLOCKS[2][1] + "\nprint(type(optimizer).__name__)\n")
    assert run([sys.executable, "cell.py"], folder).strip()


@pytest.mark.long
def test_the_fit(folder: Path) -> None:
    (folder / "fit.py").write_text(BLOCKS[3][1])
    name = run([sys.executable, "fit.py"], folder).strip().splitlines()[-1]
    assert Recommendation.load(folder / "autoopt").recommendation.optimizer == name
