"""Trials of a LightningModule run in a real Trainer, and are what the plain loop would have given."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from autoopt import training
from autoopt.errors import UserCodeError, WorkloadError
from autoopt.records import Outcome, TrialResult, TrialSpec
from autoopt.trials import execute as executing
from autoopt.trials.execute import execute
from autoopt.trials.runner import Progress
from autoopt.workload import Workload, from_lightning, load
from autoopt.workload.probes import unavailable
from tests.workload.files import write

pytest.importorskip("lightning")
EXAMPLE = Path(__file__).parents[2] / "examples" / "digits_lightning" / "model.py"

TASK = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

calls = []

class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 1)
        self.drop = nn.Dropout(0.5)
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch_idx)
        loss = (self.net(self.drop(batch[0])) - batch[1]).square().mean()
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log_dict({"val_loss": (self.net(batch[0]) - batch[1]).square().mean(), "val_acc": float(len(batch[0]))})

    def on_train_start(self): calls.append("train_start")
    def on_train_epoch_start(self): calls.append("epoch_start")
    def on_train_epoch_end(self): calls.append("epoch_end")
    def on_before_optimizer_step(self, optimizer): calls.append("step")
    def on_validation_epoch_end(self): calls.append("validation")
    def on_train_end(self): calls.append("train_end")

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)

class Data(LightningDataModule):
    def setup(self, stage):
        self.x = torch.randn(48, 3, generator=torch.Generator().manual_seed(0))
    def train_dataloader(self):
        return DataLoader(TensorDataset(self.x[:40], self.x[:40].sum(1, keepdim=True)), 8, shuffle=True)
    def val_dataloader(self):
        return DataLoader(TensorDataset(self.x[40:], self.x[40:].sum(1, keepdim=True)), 4)
    def on_after_batch_transfer(self, batch, index):
        calls.append("transfer")
        return batch

class Mine(Callback):
    def __init__(self): self.ends = 0
    def on_train_batch_end(self, trainer, module, *rest):
        self.ends += 1
        calls.append(("batch_end", self.ends))

MINE = Mine()

def make(*overrides):
    return Net(), Data(), {"callbacks": [MINE], "max_steps": 20}
"""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def task(tmp_path: Path) -> Iterator[Callable[..., Workload]]:
    """Loads `make` of TASK, changed by (old, new) pairs."""
    found: list[Workload] = []

    def load_(*changes: tuple[str, str], name: str = ":make") -> Workload:
        text = TASK
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        found.append(load(write(tmp_path, text) + name))
        return found[-1]

    yield load_
    for workload in found:
        workload.close()


def spec(optimizer: str = "adamw", steps: int = 12, **more: Any) -> TrialSpec:
    options: dict[str, Any] = {"hyper": {"lr": 0.01}, "seed": 3, **more}
    return TrialSpec(id=1, stage="race", optimizer=optimizer, steps=steps, **options)


def run(workload: Workload, trial: TrialSpec | None = None) -> TrialResult:
    result = list(execute(workload, trial or spec()))[-1]
    assert isinstance(result, TrialResult)
    return result


def calls_of(workload: Workload) -> list[Any]:
    assert workload.project is not None
    found: list[Any] = vars(workload.project.module)["calls"]
    return found


def by_the_plain_loop(workload: Workload, trial: TrialSpec, monkeypatch: pytest.MonkeyPatch) -> TrialResult:
    with monkeypatch.context() as patched:
        patched.setattr(executing.lightning, "train", training.train)
        return run(workload, trial)


@pytest.mark.parametrize("optimizer", ["adamw", "schedule_free_adamw", "adahessian"])
def test_the_trainer_gives_the_bits_of_the_plain_loop(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if optimizer.startswith("schedule_free"):
        pytest.importorskip("schedulefree")
    workload = load(str(EXAMPLE))
    try:
        trial = spec(optimizer, 6, hyper={"lr": 1e-3})
        ours, plain = run(workload, trial), by_the_plain_loop(workload, trial, monkeypatch)
    finally:
        workload.close()
    assert len(ours.curve) == 6
    assert (ours.curve, ours.loss, ours.digests) == (plain.curve, plain.loss, plain.digests)
    assert ours.peak_bytes == plain.peak_bytes
    assert ours.speed is not None
    assert ours.speed.step.seconds > 0


def test_clipping_is_the_same_too(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workload, trial = task(), spec("sgd", hyper={"lr": 0.05, "clip": 0.1})
    ours, plain = run(workload, trial), by_the_plain_loop(workload, trial, monkeypatch)
    assert ours.curve == plain.curve
    assert ours.curve != run(workload, spec("sgd", hyper={"lr": 0.05})).curve


def test_hooks_and_callbacks_are_called_in_lightnings_order(task: Any) -> None:
    workload = task()
    calls = calls_of(workload)
    calls.clear()
    result = run(workload)  # 12 steps, epochs of 5
    assert result.outcome is Outcome.COMPLETED
    marks = [c for c in calls if isinstance(c, str) and c not in ("transfer", "step")]
    epochs = ["epoch_start", "epoch_end"] * 3
    assert marks == ["train_start", *epochs, "train_end", "validation"]
    assert [c for c in calls if isinstance(c, tuple)][-1] == ("batch_end", 12)
    assert calls.count("step") == 12
    assert calls.count("transfer") >= 12 + 2


def test_each_trial_starts_alike(task: Any) -> None:
    workload = task()
    first = run(workload)
    again = run(workload)
    assert (first.curve, first.loss, first.digests) == (again.curve, again.loss, again.digests)
    assert vars(workload.project.module)["MINE"].ends == 0, "callbacks are copied"
    other = run(workload, spec("sgd"))
    assert other.digests == first.digests
    assert run(workload, spec(seed=4)).curve[0] != first.curve[0]


def test_seeds_differ_in_their_weights(task: Any) -> None:
    workload = task()
    weights = [workload.start(seed, 1).net.weight.clone() for seed in (0, 1, 0)]
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])


def test_the_metric_is_a_logged_key(task: Any) -> None:
    workload = task(("calls = []", "calls = []\nMETRIC = ('val_acc', 'max')"))
    workload.contract.constants["METRIC"] = ("val_acc", "max")
    del workload._own_settings
    result = run(workload)
    assert result.metric == 4.0
    assert result.loss is not None


def test_accumulation_steps_at_the_end_of_an_epoch_as_lightning_does(task: Any) -> None:
    workload = task(('"max_steps": 20', '"max_steps": 20, "accumulate_grad_batches": 2'))
    calls = calls_of(workload)
    calls.clear()
    result = run(workload, spec(steps=6))
    assert (result.steps_done, calls.count("step")) == (6, 6)
    assert len([c for c in calls if isinstance(c, tuple)]) == 10, "5 batches make 3 steps"
    reasons = unavailable(workload, workload.start(0, 3), next(workload.batches(0)), False)
    assert "last of the 2 batches" in reasons["adahessian"]
    assert "adamw" not in reasons


def test_max_epochs_are_the_length_of_the_run(task: Any) -> None:
    assert task(('"max_steps": 20', '"max_epochs": 3')).settings.steps == 15


def test_divergence_ends_the_fit_and_the_next_trial_is_untouched(task: Any) -> None:
    workload = task()
    before = run(workload)
    diverged = run(workload, spec("sgd", 400, hyper={"lr": 1e6}))
    assert diverged.outcome is Outcome.DIVERGED
    assert diverged.steps_done < 400
    assert run(workload).curve == before.curve


def test_a_trial_can_be_left_at_any_step(task: Any) -> None:
    workload = task()
    before = run(workload)
    items = execute(workload, spec())
    assert [next(items).step for _ in range(3)] == [1, 2, 3]
    assert isinstance(next(items), Progress)
    items.close()
    assert run(workload).curve == before.curve


def test_a_callback_that_stops_the_run_is_told(task: Any) -> None:
    workload = task(("self.ends += 1", "self.ends += 1; trainer.should_stop = self.ends > 3"))
    with pytest.raises(WorkloadError, match=r"ended after \d+ of 12 steps"):
        run(workload)


def test_what_the_module_raises_names_its_line(task: Any) -> None:
    workload = task(("def on_train_epoch_end(self): calls", "def on_train_epoch_end(self): 1 / 0; calls"))
    with pytest.raises(UserCodeError, match=r"Trainer.fit\(\) in model.py:\d+ raised ZeroDivisionError"):
        run(workload)


def test_ctrl_c_comes_through_and_the_handlers_stay(task: Any) -> None:
    workload = task(
        (
            "def on_train_epoch_end(self):",
            "def on_train_epoch_end(self): import signal; signal.raise_signal(2);",
        )
    )
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        run(workload)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_while_a_trial_is_halted_the_process_keeps_its_handlers(task: Any) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    items = execute(task(), spec())
    next(items)
    assert signal.getsignal(signal.SIGTERM) is handler
    items.close()


def test_early_stopping_and_checkpoints_have_no_part(task: Any) -> None:
    workload = task(
        (
            "from lightning.pytorch import ",
            "from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint\n"
            "from lightning.pytorch import ",
        ),
        ('"callbacks": [MINE]', '"callbacks": [MINE, EarlyStopping("val_loss"), ModelCheckpoint()]'),
    )
    assert any("EarlyStopping" in note for note in workload.notes)
    assert run(workload).outcome is Outcome.COMPLETED


def test_the_package_pytorch_lightning(task: Any) -> None:
    pytest.importorskip("pytorch_lightning")
    workload = task(("from lightning.pytorch", "from pytorch_lightning"))
    model = workload.start(0, 1)
    assert type(model.trainer).__mro__[1].__module__.startswith("pytorch_lightning")
    assert run(workload).outcome is Outcome.COMPLETED


def test_a_loss_beside_the_module_is_what_trains(tmp_path: Path) -> None:
    text = TASK + "\ndef loss(model, batch):\n    return model.net(batch[0]).square().mean() + 7\n"
    workload = load(write(tmp_path, text))
    try:
        assert all(loss > 7 for _, loss in run(workload).curve)
    finally:
        workload.close()


def test_a_loader_without_a_length_is_one_long_epoch(task: Any) -> None:
    workload = task(
        (
            "return DataLoader(TensorDataset(self.x[:40], self.x[:40].sum(1, keepdim=True)), 8, shuffle=True)",
            "return (lambda: ((x, x.sum(1, keepdim=True)) for x in self.x[:40].split(8)))",
        )
    )
    calls = calls_of(workload)
    calls.clear()
    assert run(workload).steps_done == 12
    assert calls.count("epoch_start") == 1


def test_bf16_is_the_trainers_precision(task: Any) -> None:
    workload = task(
        ('"max_steps": 20', '"max_steps": 20, "precision": "bf16-mixed"'),
        ("self.seen.append(batch_idx)", "calls.append(self.net(batch[0]).dtype)"),
    )
    assert workload.settings.precision == "bf16"
    run(workload)
    assert torch.bfloat16 in calls_of(workload)


def test_the_users_objects_are_as_they_were(task: Any) -> None:
    task()
    import sys

    module = sys.modules["model"]
    net, data = module.Net(), module.Data()
    weight, keys = net.net.weight.detach().clone(), set(vars(data))
    trainer = module.Trainer(
        callbacks=[module.MINE], logger=False, enable_checkpointing=False, accelerator="cpu", max_epochs=2
    )
    workload = from_lightning(net, data, trainer=trainer, metric=("val_acc", "max"))
    result = run(workload)
    assert (workload.settings.steps, result.metric) == (10, 4.0)
    workload.close()
    assert torch.equal(net.net.weight, weight)
    assert (net.seen, net._trainer, set(vars(data))) == ([], None, keys)
    assert (module.MINE.ends, trainer.global_step) == (0, 0)
