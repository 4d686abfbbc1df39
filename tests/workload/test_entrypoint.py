"""Functions that are the main of a script: behind Hydra, behind argparse, and those that go on to train."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from autoopt.errors import UserCodeError, WorkloadError
from autoopt.workload import Workload, load
from tests.workload.files import write

pytest.importorskip("lightning")

LIT = """
import argparse, sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

class Lit(LightningModule):
    def __init__(self, width, lr=0.1):
        super().__init__()
        self.net = nn.Linear(3, int(width))
        self.lr = float(lr)
    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).square().mean()
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr)

class Data(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.randn(40, 3)), 8)
"""
ARGPARSE = """
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=1)
    parser.add_argument("--lr", type=float, default=1e-2)
    args = parser.parse_args()
    module, data = Lit(args.width, args.lr), Data()
    trainer = Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, gradient_clip_val=0.5)
    try:
        trainer.fit(module, datamodule=data)
    except Exception:
        raise RuntimeError("a handler of the script's own")
    raise RuntimeError("it has trained")
"""
HYDRA = """
import hydra

@hydra.main(version_base=None, config_path="conf", config_name="train")
def main(cfg):
    assert "hydra" not in cfg
    from hydra.core.hydra_config import HydraConfig
    assert HydraConfig.get().runtime.output_dir == cfg.out
    return Lit(cfg.width, cfg.lr), Data(), {"max_steps": cfg.steps}
"""


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[object]:
    found: list[Workload] = []

    def open_(text: str, name: str, *args: str) -> Workload:
        found.append(load(f"{write(tmp_path, LIT + text)}:{name}", args))
        return found[-1]

    yield open_
    for workload in found:
        workload.close()


def widths(workload: Workload) -> tuple[int, float]:
    model = workload.start(0, 2)
    return model.net.out_features, workload.baseline(model).hyper["lr"]


def test_a_script_behind_argparse_is_stopped_at_its_fit(opened, tmp_path):
    argv = list(sys.argv)
    workload = opened(ARGPARSE, "main", "--width", "4", "--lr", "0.5")
    assert widths(workload) == (4, 0.5)
    assert (workload.settings.steps, workload.settings.clip) == (10, 0.5)
    assert sys.argv == argv
    first, other = (workload.start(seed, 2).net.weight.clone() for seed in (0, 1))
    assert not torch.equal(first, other), "the function is called anew for each seed"
    from lightning.pytorch import Trainer

    assert Trainer.fit.__module__ == "lightning.pytorch.trainer.trainer"


def test_arguments_that_argparse_refuses_are_told(opened):
    with pytest.raises(UserCodeError, match=r"sys\.exit"):
        opened(ARGPARSE, "main", "--wdth", "4")


def test_a_function_behind_hydra(opened, tmp_path):
    pytest.importorskip("hydra")
    write(tmp_path, "width: 1\nlr: 0.1\nsteps: 30\nout: ${hydra:runtime.output_dir}\n", "conf/train.yaml")
    write(tmp_path, "# @package _global_\nlr: 0.25\n", "conf/experiment/foo.yaml")
    before = sorted(p.name for p in Path.cwd().iterdir())
    workload = opened(HYDRA, "main", "+experiment=foo", "width=5")
    assert widths(workload) == (5, 0.25)
    assert workload.settings.steps == 30
    assert sorted(p.name for p in Path.cwd().iterdir()) == before, "no folder outputs"


def test_what_hydra_does_not_take_is_told(opened, tmp_path):
    pytest.importorskip("hydra")
    write(tmp_path, "width: 1\nlr: 0.1\nsteps: 30\nout: ${hydra:runtime.output_dir}\n", "conf/train.yaml")
    with pytest.raises(WorkloadError, match="'--multirun' is an option of Hydra's command line"):
        opened(HYDRA, "main", "--multirun")
    with pytest.raises(UserCodeError, match="widht"):
        opened(HYDRA, "main", "widht=5")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("pass", r"make\(\) returned None"),
        ("return Lit(1), Data(), {}, 4", "gives 4 objects"),
        ("return Lit(1), Data(), 4", "the Trainer is a int"),
        ("return torch.nn.Linear(1, 1)", "a model without data"),
    ],
)
def test_what_a_function_must_return_is_told(opened, body, message):
    with pytest.raises(WorkloadError, match=message) as caught:
        opened(f"\ndef make():\n    {body}\n", "make")
    assert caught.value.hint


def test_loaders_in_the_place_of_a_data_module(opened):
    text = (
        "\ndef make(width):\n    return Lit(width), (Data().train_dataloader(), Data().train_dataloader())\n"
    )
    workload = opened(text, "make", "2")
    assert (workload.validation, len(workload.held), workload.train_source.length) == ("own", 5, 5)
