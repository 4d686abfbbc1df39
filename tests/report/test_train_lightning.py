"""The train.py of a LightningModule: a real Trainer runs it, hooks and all, to the loss of the trial."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.report.test_train_script import STEPS, one_thread, recommend, run, trial, write_script

pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore:.*")

__all__ = ["one_thread"]
MODEL = """
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

STEPS = 20


def _data(seed, n):
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long())


class Lit(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
        self.weight = 1.0

    def on_train_epoch_start(self):  # of a hook that is left out the loss would tell
        self.weight = 1.0 + 0.5 * self.current_epoch

    def on_train_batch_end(self, *_):
        with torch.no_grad():
            self.net[0].weight.clamp_(-0.3, 0.3)

    def training_step(self, batch, batch_idx):
        return self.weight * nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def train_dataloader(self):
        return DataLoader(_data(0, 80), batch_size=8, shuffle=True)

    def val_dataloader(self):
        return DataLoader(_data(1, 32), batch_size=8)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return path


@pytest.mark.parametrize("optimizer", ["adamw", "adahessian"])
def test_its_loss_is_the_trials(
    optimizer: str, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rec, spec = recommend(model, optimizer, 0.01)
    assert rec.workload.kind == "lightning"
    expected = trial(model, spec)
    code, outcome, told = run(write_script(rec, model), monkeypatch, capsys)
    assert (code, outcome["steps"]) == (0, STEPS)
    assert outcome["val_loss"] == expected.loss
    assert f"step {STEPS}/{STEPS}  training loss" in told


def test_it_goes_on_and_says_what_begins_anew(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rec, _ = recommend(model, "adamw", 0.01)
    path = write_script(rec, model)
    _, whole, _ = run(path, monkeypatch, capsys)
    saved = torch.load(path.parent / "checkpoint.pt", weights_only=True)
    assert saved["step"] == STEPS
    for done in (STEPS, STEPS // 2):
        torch.save({**saved, "step": done}, path.parent / "checkpoint.pt")
        code, again, told = run(path, monkeypatch, capsys, "--resume")
        assert (code, again["steps"]) == (0, STEPS)
        # As of Lightning's own checkpoints, the module's hook after the last step is not in it.
        nothing_done = again["val_loss"] == pytest.approx(whole["val_loss"], rel=1e-4)
        assert nothing_done is (done == STEPS)
        assert "hooks and callbacks begin anew here" in told


def test_several_processes_are_told_the_way(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rec, _ = recommend(model, "adamw", 0.01)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="--for lightning"):
        run(write_script(rec, model), monkeypatch, capsys)
