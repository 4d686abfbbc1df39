from __future__ import annotations

import warnings

import pytest
import torch

from autoopt.errors import WorkloadError
from autoopt.workload import trainer

pytest.importorskip("lightning")

LIT = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from lightning.pytorch import LightningDataModule, LightningModule

STEPS = 20

class Base(LightningModule):
    pass

class Lit(Base):
    def __init__(self, width: int = 4):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(3, width), nn.Linear(width, 1))

    def setup(self, stage):
        assert stage == "fit"
        self.ready = True

    def training_step(self, batch, batch_idx):
        assert self.ready
        x, y = batch
        loss = (self.net(x) - y).square().mean()
        self.log("train_loss", loss)
        self.log_dict({"index": batch_idx, "step": self.global_step})
        return {"loss": loss, "index": batch_idx}

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self):
        x = torch.randn(40, 3)
        return DataLoader(TensorDataset(x, x[:, :1]), 8, shuffle=True)
"""
VALIDATED = (
    LIT
    + """
    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", (self.net(x) - y).abs().mean())
        self.log("val_size", float(len(x)))
"""
)


def test_a_module_with_its_loaders_needs_nothing_more(opened):
    workload = opened(LIT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # self.log without a Trainer warns
        model = workload.start(0, 5)
        batches = workload.batches(0)
        losses = [workload.loss(model, next(batches)).item() for _ in range(3)]
    assert workload.kind == "lightning"
    assert len(losses) == 3
    assert workload.validation == "held_out"
    score = workload.evaluate(model)  # no validation_step: training_step in eval mode
    x, y = next(iter(workload.held.batches))
    assert score.loss == pytest.approx((model.net(x) - y).square().mean().item(), rel=1e-5)
    first = workload.loss(workload.start(0, 5), next(workload.batches(0))).item()
    assert first == losses[0]


def test_its_optimizer_and_schedule_over_the_real_run(opened):
    workload = opened(LIT)
    found = workload.baseline(workload.start(0, 5))
    assert (found.registry_name, found.hyper["lr"], found.scheduler) == ("adamw", 0.01, "LinearLR")
    assert found.schedule(0.5) == pytest.approx(0.5)
    assert workload.settings.schedule == "yours"


def test_its_trainer_is_there_before_the_first_start(opened):
    assert opened(LIT).settings.schedule == "yours"  # as `autoopt profile` asks, before any training


def test_epoch_is_the_interval_unless_it_is_named(opened):
    text = LIT.replace(', "interval": "step"', "").replace("estimated_stepping_batches", "max_epochs")
    workload = opened(text)
    found = workload.baseline(workload.start(0, 5))
    assert [found.schedule(k / 20) for k in (0, 4)] == [1.0, 1.0]  # 5 batches an epoch
    assert found.schedule(5 / 20) < 1


def test_logged_values_are_loss_and_metric(opened):
    workload = opened(VALIDATED + "\nMETRIC = ('val_size', 'max')\n")
    model = workload.start(0, 5)
    score = workload.evaluate(model)
    x, y = next(iter(workload.held.batches))
    assert score.loss == pytest.approx((model.net(x) - y).abs().mean().item(), rel=1e-5)
    assert score.metric == 4.0
    workload = opened(VALIDATED + "\nMETRIC = ('val_acc', 'max')\n")
    with pytest.raises(WorkloadError, match="METRIC names 'val_acc', but the validation logs"):
        workload.evaluate(workload.start(0, 5))


def test_metric_objects_are_computed_once_and_start_anew(opened):
    text = VALIDATED.replace("self.ready = True", "self.ready = True; self.mean = Mean()").replace(
        'self.log("val_size", float(len(x)))', 'self.mean.update(y); self.log("mean", self.mean)'
    )
    text = "from torchmetrics import MeanMetric as Mean\n" + text + "\nMETRIC = ('mean', 'min')\n"
    workload = opened(text)
    model = workload.start(0, 5)
    expected = torch.cat([y for _, y in workload.held.batches]).mean().item()
    assert workload.evaluate(model).metric == pytest.approx(expected, rel=1e-5)
    assert workload.evaluate(model).metric == pytest.approx(expected, rel=1e-5)


def test_a_data_module_in_the_file(opened):
    text = (
        LIT.partition("    def train_dataloader")[0]
        + """
class Data(LightningDataModule):
    def setup(self, stage):
        self.x = torch.randn(24, 3)
    def train_dataloader(self):
        return DataLoader(TensorDataset(self.x[:16], self.x[:16, :1]), 8)
    def val_dataloader(self):
        return DataLoader(TensorDataset(self.x[16:], self.x[16:, :1]), 8)
"""
    )
    workload = opened(text)
    assert (workload.train_source.length, len(workload.held), workload.validation) == (2, 1, "own")


def test_functions_beside_the_module_win(opened):
    workload = opened(
        LIT
        + """
def loss(model, batch):
    return model.net(batch[0]).mean() * 0 + 7
def configure_optimizers(model):
    return torch.optim.SGD(model.parameters(), lr=1)
"""
    )
    model = workload.start(0, 2)
    assert workload.loss(model, next(workload.batches(0))).item() == 7
    assert workload.baseline(model).name == "SGD"


def test_build_model_may_return_one(opened):
    workload = opened(
        LIT.replace("class Lit(Base)", "class Lit(Base)")
        + "\ndef build_model():\n    m = Lit(9); m.ready = True; return m\n"
    )
    model = workload.start(0, 2)
    assert (workload.kind, model.net[0].out_features) == ("lightning", 9)
    assert workload.loss(model, next(workload.batches(0))).ndim == 0


def test_a_wrapped_module_goes_through_the_wrapper(opened):
    workload = opened(LIT)
    model = workload.start(0, 2)

    class Wrapper(torch.nn.Module):
        calls = 0

        def __init__(self) -> None:
            super().__init__()
            self.module = model

        def forward(self, *inputs):
            self.calls += 1
            return self.module(*inputs)

    wrapper, batch = Wrapper(), next(workload.batches(0))
    assert workload.loss(wrapper, batch).item() == workload.loss(model, batch).item()
    assert wrapper.calls == 1
    assert "forward" not in vars(model)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "self.save_hyper",
            "self.automatic_optimization = False; self.save_hyper",
            "Lit sets automatic_optimization",
        ),
        ("width: int = 4", "width", "Lit cannot be made without arguments"),
        (
            "class Lit(Base)",
            "class Other(Base):\n    pass\n\nclass Lit(Base)",
            "has 2 of LightningModule: Other, Lit",
        ),
        (
            'return {"optimizer": optimizer,',
            'return [optimizer] * 2 or {"optimizer": optimizer,',
            "2 optimizers",
        ),
        ("def train_dataloader", "def other", r"has no train_dataloader\(\)"),
    ],
)
def test_what_is_refused(opened, old, new, message):
    def start() -> None:
        workload = opened(LIT.replace(old, new, 1))
        workload.baseline(workload.start(0, 2))

    with pytest.raises(WorkloadError, match=message) as caught:
        start()
    assert caught.value.hint


def test_a_single_step_has_a_real_trainer_too(opened):
    asked = (
        "x, y = batch; self.seen = (self.trainer.strategy.root_device, self.trainer.max_steps, self.trainer.max_epochs,"
        " self.trainer.num_training_batches, self.trainer.world_size, self.trainer.training,"
        " self.optimizers().param_groups[0]['lr'])"
    )
    workload = opened(LIT.replace("x, y = batch", asked, 1))
    model = workload.start(0, 12)
    workload.loss(model, next(workload.batches(0)))
    assert model.seen == (torch.device("cpu"), 12, 3, 5, 1, True, 0.0)


def test_what_the_module_remembers_starts_anew(opened):
    text = LIT.replace("self.ready = True", "self.ready = True; self.seen = [0]")
    workload = opened(text.replace("x, y = batch", "x, y = batch; self.seen.append(1); self.extra = 1", 1))
    model = workload.start(0, 5)
    workload.loss(model, next(workload.batches(0)))
    assert (model.seen, model.extra) == ([0, 1], 1)
    model = workload.start(0, 5)
    assert model.seen == [0]
    assert not hasattr(model, "extra")


def test_the_transfer_hooks_make_the_batch(opened):
    hook = "\n    def on_after_batch_transfer(self, batch, index):\n        return batch[0] * 0, batch[1]\n"
    workload = opened(LIT + hook)
    model = workload.start(0, 5)
    batch = next(workload.batches(0))
    bias = model.net(torch.zeros_like(batch[0]))
    assert workload.loss(model, batch).item() == pytest.approx((bias - batch[1]).square().mean().item())
    assert workload.evaluate(model).loss > 0


def test_a_trainer_that_cannot_be_is_refused(opened, tmp_path):
    with pytest.raises(WorkloadError, match="precision is 'bf16-true'"):
        trainer.read({"precision": "bf16-true"}, "task")
    with pytest.raises(WorkloadError, match="the Trainer is a int"):
        trainer.read(3, "task")


def test_the_trainers_arguments_become_settings():
    class EarlyStopping:
        pass

    class Mine:
        pass

    mine = Mine()
    given = trainer.read(
        {
            "max_epochs": 3,
            "precision": "bf16-mixed",
            "gradient_clip_val": 0.5,
            "accumulate_grad_batches": 2,
            "callbacks": [EarlyStopping(), mine],
            "devices": 8,
        },
        "task",
    )
    assert given.constants == {"PRECISION": "bf16", "CLIP": 0.5, "ACCUMULATE": 2}
    assert (given.epochs, given.callbacks) == (3, (mine,))
    assert given.notes == (
        "These callbacks have no part in trials: EarlyStopping.",
        "These arguments of the Trainer have no part in trials: devices.",
    )


def test_close_takes_everything_off(opened):
    workload = opened(LIT + "\nMODULE = Lit()\n")
    module = workload.start(0, 2)
    workload.close()
    assert "log" not in vars(module)
    assert module._trainer is None
