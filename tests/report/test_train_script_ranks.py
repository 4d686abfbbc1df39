"""train.py of a model that several processes train together: it repeats their trial, sharded or not, and resumes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autoopt.records import Recommendation
from autoopt.report.script import script
from tests.report import factory
from tests.report.test_train_script import recommend, trial, write_model, write_script

ROOT = Path(__file__).parents[2]
SHARDED = """
_build = build_model

def build_model():
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    model = _build()
    if dist.is_initialized():
        fully_shard(model)
    return model
"""
STOP = "\ndef after_step(model, ctx):\n    import os\n    if ctx.step == 13:\n        os._exit(7)\n"


def of_two(rec: Recommendation) -> Recommendation:
    """The same recommendation as two processes would have found it."""
    workload = rec.workload.model_copy(update={"processes": 2, "averaged_by": "DistributedDataParallel"})
    settings = rec.settings.model_copy(update={"ranks": 2})
    return rec.model_copy(update={"workload": workload, "settings": settings})


def run(path: Path, *flags: str) -> tuple[int, dict[str, Any], str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, str(path), "--json", "--device", "cpu", "--seed", "3", *flags],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=300,
    )
    lines = done.stdout.splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr


def test_the_command_says_how_many_processes() -> None:
    rec = of_two(factory.recommendation())
    text = script(rec, ".", "model.py")
    assert "torchrun --nproc-per-node 2 train.py             " in text
    assert "torchrun --nproc-per-node 4" not in text
    assert "parallel_of(model, TARGET)" in text
    compile(text, "train.py", "exec")
    one = script(factory.recommendation(), ".", "model.py")
    assert "parallel_of" not in one


@pytest.mark.long
@pytest.mark.parametrize("more", ["", SHARDED], ids=["plain", "sharded"])
def test_it_repeats_the_trial_and_resumes(more: str, tmp_path: Path) -> None:
    model = write_model(tmp_path, constants="ACCUMULATE = 2", more=more)
    model.write_text(model.read_text().replace("nn.BatchNorm1d(8), ", "").replace("nn.Dropout(0.2), ", ""))
    rec, spec = recommend(model, "adamw", 0.01)
    path = write_script(of_two(rec), model)
    code, outcome, err = run(path)
    assert code == 0, err
    assert outcome["val_loss"] == pytest.approx(trial(model, spec).loss, rel=1e-4)
    text = model.read_text()
    model.write_text(text + STOP)
    checkpoint = str(tmp_path / "c.pt")
    assert run(path, "--checkpoint", checkpoint)[0] != 0
    model.write_text(text)
    code, resumed, err = run(path, "--checkpoint", checkpoint, "--resume")
    assert code == 0, err
    assert "step 12/20" not in err
    assert resumed["val_loss"] == pytest.approx(outcome["val_loss"], rel=1e-6)
