"""Advice in mid-run: to keep the optimizer of a half-trained net, or to change it now."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import autoopt
from autoopt import policy as policies
from autoopt.errors import UsageError
from autoopt.job import Job
from autoopt.records import BASELINE, Flags, Recommendation
from autoopt.sitting import run_job
from autoopt.trials.inprocess import InProcess
from autoopt.workload import load

ROOT = Path(__file__).parents[1]
HALF, WHOLE = 60, 120

COMMON = """
import torch
from torch import nn

STEPS = 120


def build_model():
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))


def _data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(320, 4, generator=generator)
    return x, torch.sin(x.sum(1, keepdim=True))


def train_dataloader():
    x, y = _data()
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[:256], y[:256]), 32, shuffle=True)


def val_dataloader():
    x, y = _data()
    return [(x[256:], y[256:])]


def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()
"""
SLOW_SGD = "def configure_optimizers(model):\n    return torch.optim.SGD(model.parameters(), lr=1e-4)\n"
GOOD_ADAMW = """
def configure_optimizers(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
"""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def file_of(configure: str) -> dict[str, Any]:
    """The names of a user's file."""
    names: dict[str, Any] = {}
    exec(COMMON + configure, names)
    return names


def half_trained(names: dict[str, Any], steps: int = HALF) -> dict[str, Any]:
    """What a training loop of theirs has by then."""
    torch.manual_seed(3)
    model: nn.Module = names["build_model"]()
    made = names["configure_optimizers"](model)
    optimizer, scheduler = made if isinstance(made, tuple) else (made, None)
    done = 0
    while done < steps:
        for batch in names["train_dataloader"]():
            optimizer.zero_grad()
            loss: Tensor = names["loss"](model, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            done += 1
            if done == steps:
                break
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": steps}


def advice(names: dict[str, Any], saved: Any, **more: Any) -> Any:
    return autoopt.choose(
        names["build_model"],
        names["train_dataloader"],
        names["loss"],
        val=names["val_dataloader"],
        configure_optimizers=names["configure_optimizers"],
        steps=WHOLE,
        checkpoint=saved,
        device="cpu",
        progress=False,
        **more,
    )


@pytest.mark.long
def test_a_badly_tuned_sgd_is_left() -> None:
    names = file_of(SLOW_SGD)
    rec = advice(names, half_trained(names), budget=20, optimizers=["adamw"])
    assert rec.against_yours.verdict in ("switch", "tune")
    assert f"at step {HALF}, against going on with yours" in rec.against_yours.sentence
    assert rec.against_yours.chosen < 0.5 * rec.against_yours.yours
    assert rec.against_yours.high < rec.against_yours.yours
    assert rec.recommendation.steps == rec.settings.steps == WHOLE - HALF
    assert rec.recommendation.warmup_steps > 0
    assert "warm-up for its fresh state" in rec.reason
    optimizer, scheduler = rec.build(names["build_model"]())
    first = optimizer.param_groups[0]["lr"]
    optimizer.step()
    scheduler.step()
    assert 0 < first < optimizer.param_groups[0]["lr"], "it warms up"


@pytest.mark.long
def test_a_good_run_near_its_end_is_kept() -> None:
    names = file_of(GOOD_ADAMW)
    rec = advice(names, half_trained(names, 100), budget=10, optimizers=["sgd"])
    assert rec.against_yours.verdict == "keep"
    assert rec.recommendation.optimizer == BASELINE
    assert rec.recommendation.warmup_steps == 0
    assert "go on from step 100 with your AdamW with its state" in rec.against_yours.sentence
    assert "keep what you have" in rec.snippet()
    with pytest.raises(UsageError, match="keep what you have"):
        rec.build(names["build_model"]())


@pytest.mark.long
@pytest.mark.parametrize("kept", [True, False])
def test_a_file_and_its_script(kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure = GOOD_ADAMW if kept else SLOW_SGD
    (tmp_path / "model.py").write_text(COMMON + configure)
    torch.save(half_trained(file_of(configure), 100), tmp_path / "half.pt")
    monkeypatch.chdir(tmp_path)
    flags = Flags(checkpoint="half.pt")
    job = Job(
        target="model.py",
        out=Path("run"),
        budget=8,
        policy=policies.load("balanced"),
        flags=flags,
        optimizers=["sgd"] if kept else ["adamw"],
    )
    rec = run_job(job, InProcess(load("model.py", flags=flags)))
    assert isinstance(rec, Recommendation)
    assert rec.workload.checkpoint is not None
    assert (rec.workload.checkpoint.source, rec.workload.checkpoint.step) == ("half.pt", 100)
    assert (rec.recommendation.optimizer == BASELINE) is kept
    script = tmp_path / "run" / "train.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), "--json"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["steps"] == 20
    assert rec.expected.loss is not None
    assert result["val_loss"] == pytest.approx(rec.expected.loss, rel=0.5)
