"""docs/huggingface.md is a program that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("transformers")
pytest.importorskip("peft")


@pytest.mark.long
def test_the_page_runs(tmp_path: Path) -> None:
    """With a budget of seconds, which is the only thing that is changed."""
    page = (ROOT / "docs" / "huggingface.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    program = "\n".join(blocks)
    assert program.count('budget="10m"') == 2
    file = tmp_path / "page.py"
    file.write_text(program.replace('budget="10m"', 'budget="30s", optimizers=["sgd"], progress=False'))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"frozen parameters are the same after each of \d+ trials", done.stdout)
