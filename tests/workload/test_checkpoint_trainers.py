"""What Lightning's and Hugging Face's Trainers save: going on from it in a trial ends where the Trainer itself would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from autoopt.errors import WorkloadError
from autoopt.records import BASELINE, Flags
from autoopt.trials.execute import execute
from autoopt.trials.testing import spec
from autoopt.workload.entry import from_callables, from_lightning, load
from autoopt.workload.workload import Workload
from tests.workload import trainers

lightning = pytest.importorskip("lightning.pytorch")

MODULE = """
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

STEPS = 20


class Lit(LightningModule):
    def __init__(self, width=4):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))

    def training_step(self, batch, batch_idx):
        return (self.net(batch[0]) - 1).square().mean()

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.02)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self):  # every batch is the same: the order, which a checkpoint does not have, says nothing
        return DataLoader(TensorDataset(torch.ones(32, 3)), 8)

    def val_dataloader(self):
        return DataLoader(TensorDataset(torch.ones(8, 3)), 8)
"""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def fitted(names: dict[str, Any], steps: int, folder: Path, save: Path | None = None) -> Any:
    """A module that a real Trainer has trained; with its checkpoint."""
    torch.manual_seed(1)
    module = names["Lit"]()
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=save is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    trainer.fit(module)
    if save is not None:
        trainer.save_checkpoint(save)
    return module


def gone_on(workload: Workload, steps: int) -> dict[str, torch.Tensor]:
    """The weights after a trial of the user's own optimizer over all that remains."""
    assert workload.settings.steps == steps
    *_, result = execute(workload, spec(0, BASELINE, steps=steps).model_copy(update={"hyper": {}}))
    assert result.loss is not None  # type: ignore[union-attr]
    return {name: value.clone() for name, value in workload.model.state_dict().items()}


def close(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    assert found.keys() == wanted.keys()
    return all(torch.allclose(found[name], wanted[name], rtol=1e-4, atol=1e-6) for name in wanted)


@pytest.mark.filterwarnings("ignore")  # of Lightning's own
@pytest.mark.parametrize("how", ["file", "instance"])
def test_a_module_goes_on_from_lightnings_checkpoint(how: str, tmp_path: Path) -> None:
    names: dict[str, Any] = {"__name__": "lit"}
    exec(MODULE, names)
    saved = tmp_path / "half.ckpt"
    fitted(names, 10, tmp_path, saved)
    whole = fitted(names, 20, tmp_path).state_dict()
    if how == "file":
        (tmp_path / "model.py").write_text(MODULE)
        workload = load(str(tmp_path / "model.py"), flags=Flags(checkpoint=str(saved)))
    else:
        workload = from_lightning(names["Lit"](), flags=Flags(steps=20), checkpoint=saved)
    assert workload.checkpoint is not None
    assert (workload.checkpoint.step, workload.checkpoint.optimizer is not None) == (10, True)
    assert close(gone_on(workload, 10), whole)
    report = workload.report(quick=True)
    assert any("Trials count steps and epochs from the checkpoint on" in text for text in report.warnings)
    workload.close()


@pytest.mark.filterwarnings("ignore")  # of transformers' own
@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_a_trainer_goes_on_from_its_folder(schedule: str, tmp_path: Path) -> None:
    """The model's output weights are its embedding: the file has them once."""
    options = {"lr_scheduler_type": schedule, "save_strategy": "steps", "save_steps": 6}
    same = [trainers.sentences(1)[0]] * 40

    def trainer(folder: Path) -> Any:
        made = trainers.language(folder, **options)
        made.train_dataset = same
        return made

    theirs = trainer(tmp_path / "out")
    theirs.train()
    ours = trainer(tmp_path / "other")
    workload = from_callables(model=ours, flags=Flags(), checkpoint=tmp_path / "out" / "checkpoint-6")
    assert close(gone_on(workload, 6), theirs.model.state_dict())
    workload.close()


@pytest.mark.filterwarnings("ignore")
def test_choose_takes_a_trainer_with_its_checkpoint(tmp_path: Path) -> None:
    import autoopt

    trainer = trainers.language(tmp_path / "out", save_strategy="steps", save_steps=6)
    trainer.train()
    rec = autoopt.choose(
        trainers.language(tmp_path / "other"),
        checkpoint=tmp_path / "out" / "checkpoint-6",
        optimizers=["sgd"],
        budget="10s",
        progress=False,
    )
    assert rec.workload.checkpoint is not None
    assert (rec.workload.checkpoint.step, rec.settings.steps) == (6, 6)
    assert rec.against_yours.sentence


@pytest.mark.filterwarnings("ignore")
def test_another_modules_checkpoint_is_told_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODULE)
    names: dict[str, Any] = {"__name__": "lit"}
    exec(MODULE.replace("width=4", "width=5"), names)
    fitted(names, 2, tmp_path, tmp_path / "other.ckpt")
    out = str(tmp_path / "out")
    arguments = ["profile", str(tmp_path / "model.py"), "--checkpoint", str(tmp_path / "other.ckpt")]
    command = [
        sys.executable,
        "-m",
        "autoopt",
        *arguments,
        "--out",
        out,
        "--budget",
        "5m",
        "--device",
        "cpu",
        "--json",
    ]
    # A process of its own: the budget counts from its start.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    error = json.loads(done.stdout)["error"]
    assert "other.ckpt does not fit the model: size mismatch" in error["message"]


def test_an_adapters_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(WorkloadError, match=r"neither model\.safetensors nor"):
        from_callables(model=trainers.language(tmp_path / "x"), checkpoint=tmp_path)
