from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from autoopt.cli.main import run
from autoopt.workload import load


def test_what_it_writes_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "spiral.py"
    assert run(["init", str(file)]) == 0
    assert f"autoopt check {file}" in capsys.readouterr().out
    torch.set_num_threads(1)
    workload = load(str(file))
    report = workload.report(quick=True)
    assert (report.validation, report.warnings, report.unavailable.keys() & {"adamw", "muon"}) == (
        "own",
        [],
        set(),
    )
    model = workload.start(0, 300)
    optimizer, batches = workload.baseline(model).optimizer, workload.batches(0)
    before = workload.evaluate(model).metric
    for _ in range(300):
        optimizer.zero_grad()
        workload.loss(model, next(batches)).backward()
        optimizer.step()
    after = workload.evaluate(model).metric
    workload.close()
    assert before is not None
    assert after is not None
    assert after > before + 0.1


def test_it_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from autoopt.cli.main import run\n"
        "assert run(['init', sys.argv[1]]) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.py")], check=True, stdout=subprocess.DEVNULL
    )


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.py"
    file.write_text("mine")
    assert run(["init", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert run(["init", str(file), "--force"]) == 0
    assert "def build_model" in file.read_text()
    assert run(["init", str(tmp_path / "model.txt")]) == 2
