"""A compiled model is compiled once: its code serves every trial, optimizer and seed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import autoopt
from autoopt.optim import AdaHessian
from autoopt.records import Outcome, TrialResult
from autoopt.trials.drive import drive
from autoopt.trials.engine import WorkloadEngine
from autoopt.trials.pool import Pool
from autoopt.trials.testing import spec
from autoopt.workload import Workload, from_callables
from tests.trials.conftest import result_of

# Dynamo and inductor import modules of torch's that warn.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

TRIALS = [
    ("adamw", 0),
    ("sgd", 0),
    ("muon", 1),
    ("adahessian", 1),
    ("lion", 2),
    ("adahessian", 2),
    ("schedule_free_adamw", 3),
    ("adan", 0),
]


class Net(nn.Module):
    """With running statistics, which are restored too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.norm(self.first(x)).tanh())
        return out


def wrapped(backend: str) -> nn.Module:
    compiled: nn.Module = torch.compile(Net(), backend=backend)  # type: ignore[assignment]
    return compiled


def in_place(backend: str) -> nn.Module:
    model = Net()
    model.compile(backend=backend)
    return model


def part(backend: str) -> nn.Module:
    """As LightningModules have it: a module around the compiled one."""
    return nn.Sequential(wrapped(backend), nn.Linear(2, 2))


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    torch.set_num_threads(1)
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def batches() -> list[tuple[Tensor, Tensor]]:
    drawn = torch.Generator().manual_seed(0)
    x = torch.randn(16, 8, 6, generator=drawn)
    return [(a, (a[:, 0] > a[:, 1]).long()) for a in x]


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def workload(build: Callable[[], nn.Module], **flags: Any) -> Workload:
    data = batches()
    return from_callables(model=build, train=lambda: data, val=lambda: data[:4], loss=loss, **flags)


def run(engine: WorkloadEngine, number: int, name: str, seed: int) -> TrialResult:
    trial = spec(number, name, steps=8).model_copy(update={"seed": seed})
    *_, result = drive(engine, trial, 0, interrupts_pass=True)
    assert isinstance(result, TrialResult)
    return result


def graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


@pytest.mark.parametrize("how", [wrapped, in_place, part])
def test_one_compilation_serves_all_optimizers_and_seeds(how: Callable[[str], nn.Module]) -> None:
    engine = WorkloadEngine(workload(lambda: how("aot_eager")), timing_seconds=0.5)
    report = engine.load(full=True)
    assert report is not None
    compiled = graphs()
    assert compiled == 2  # for training and for evaluation
    results = [run(engine, i, *trial) for i, trial in enumerate(TRIALS)]
    assert [(r.outcome, r.message) for r in results] == [(Outcome.COMPLETED, "")] * len(TRIALS)
    assert graphs() == compiled
    assert all(r.seconds["compile"] == 0 for r in results)
    assert report.restore == "in_place"
    engine.close()


def test_compiled_and_eager_trials_agree() -> None:
    losses = []
    for build in (Net, lambda: wrapped("aot_eager"), lambda: in_place("aot_eager")):
        engine = WorkloadEngine(workload(build))
        losses.append([run(engine, 0, "adamw", 3).loss, run(engine, 1, "sgd", 4).loss])
        engine.close()
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("how", [wrapped, in_place])
def test_the_start_up_tells_how_long_it_compiled_and_what_second_order_does_then(
    how: Callable[[str], nn.Module],
) -> None:
    engine = WorkloadEngine(workload(lambda: how("aot_eager")), timing_seconds=0.5)
    report = engine.load(full=True)
    assert report is not None
    assert report.seconds["compile"] > 0
    assert min(report.seconds.values()) >= 0
    assert any("differences of gradients" in note for note in report.warnings)
    assert "adahessian" not in report.unavailable
    engine.close()


@pytest.mark.parametrize("how", [wrapped, in_place])
def test_differences_switch_autocast_off_around_a_compiled_model(how: Callable[[str], nn.Module]) -> None:
    torch.manual_seed(0)
    model, (x, y) = how("aot_eager"), batches()[0]
    seen = []

    def closure() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            out = model(x)
        seen.append(out.dtype)
        return nn.functional.cross_entropy(out.float(), y)

    optimizer = AdaHessian(model.parameters(), module=model)
    optimizer.step(closure)
    assert optimizer.reason == "a compiled model has no second derivative"
    assert seen[-2:] == [torch.float32, torch.float32]  # a gradient here and one a little further on
    with torch.autocast("cpu", torch.bfloat16):
        assert model(x).dtype == torch.bfloat16  # as it was


def test_choose_compiles_once() -> None:
    data = batches()
    model = in_place("aot_eager")
    model(data[0][0])
    autoopt.choose(
        model,
        data,
        loss,
        val=data[:4],
        steps=10,
        budget="60s",
        policy="quick",
        optimizers=["adamw", "sgd", "adahessian"],
        device="cpu",
        progress=False,
    )
    assert graphs() == 2
    model.train()
    model(data[0][0])
    assert graphs() == 2  # the user's goes on with the code it had


FILE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 2)

    def forward(self, x):
        return self.last(self.first(x).tanh())

def build_model():
    return torch.compile(Net(), backend="{backend}")

def train_dataloader():
    return [torch.randn(8, 6) for _ in range(8)]

def val_dataloader():
    return [torch.randn(8, 6) for _ in range(2)]

def loss(model, batch):
    return (model(batch).sum(1) - batch.sum(1)).square().mean()
"""


@pytest.mark.long
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_worker_compiles_at_its_start_and_never_again(backend: str, tmp_path: Path) -> None:
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("inductor needs a C++ compiler")
    target = tmp_path / "model.py"
    target.write_text(FILE.format(backend=backend))
    with Pool(str(target), log_dir=tmp_path, threads=1) as pool:
        report = pool.start()
        assert report.seconds["compile"] > 0
        for i, (name, seed) in enumerate(TRIALS[:5]):
            trial = spec(i, name, steps=20).model_copy(update={"seed": seed, "hang_seconds": 120.0})
            result = result_of(pool, trial)
            assert result.outcome is Outcome.COMPLETED, result.message
            assert result.seconds["compile"] == 0
