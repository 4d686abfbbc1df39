"""`choose()` leaves everything of the user's as it was, however it ends."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import autoopt
from autoopt.errors import NoResult, UnknownOptimizer, WorkloadError
from autoopt.records import BASELINE, Recommendation

OPTIONS: dict[str, Any] = {
    "steps": 20,
    "budget": "60s",
    "device": "cpu",
    "optimizers": ["sgd"],
    "progress": False,
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Net(nn.Module):
    """Buffers, a frozen part, a module in eval mode, dropout, a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(4, 6).requires_grad_(False)
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(6, 1)
        self.still = nn.BatchNorm1d(1, affine=False).eval()
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.still(self.head(self.drop(self.norm(self.trunk(x)).relu())))
        return out


class Mine:
    """A user's objects, half way through something of their own."""

    def __init__(self) -> None:
        torch.manual_seed(11)
        self.model = Net()
        self.hooked = 0
        self.handle = self.model.head.register_forward_hook(self._count)
        self.generator = torch.Generator().manual_seed(3)
        x = torch.randn(96, 4)
        data = TensorDataset(x, x.sum(1, keepdim=True))
        self.sampler = RandomSampler(data, generator=self.generator)
        self.loader = DataLoader(data, batch_size=8, sampler=self.sampler, generator=self.generator)
        self.loss(self.model, next(iter(self.loader))).backward()  # type: ignore[no-untyped-call]
        self.model.trunk.weight.grad = None
        random.seed(5)
        np.random.seed(6)
        torch.manual_seed(7)

    def _count(self, *_: Any) -> None:
        self.hooked += 1

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        error: Tensor = model(x) - y
        return error.square().mean()

    def digest(self) -> str:
        """Of everything that must not change; tensors by value, the objects behind them by identity."""
        parts: list[Any] = []
        for name, tensor in (*self.model.named_parameters(), *self.model.named_buffers()):
            parts += [name, id(tensor), tensor.data_ptr(), tensor.requires_grad, tensor.dtype]
            parts.append(tensor.detach().numpy().tobytes())
            parts.append(None if tensor.grad is None else (id(tensor.grad), tensor.grad.numpy().tobytes()))
        for name, module in self.model.named_modules():
            hooks = {k: [id(f) for f in v.values()] for k, v in vars(module).items() if k.endswith("_hooks")}
            parts += [name, id(module), module.training, hooks, sorted(vars(module))]
        parts += [self.generator.get_state().numpy().tobytes(), id(self.loader.sampler)]
        parts += [random.getstate(), torch.get_rng_state().numpy().tobytes()]
        parts += [str(part) for part in np.random.get_state()]
        parts += [torch.is_grad_enabled(), torch.get_default_dtype(), torch.is_autocast_enabled("cpu")]
        return hashlib.sha256(repr(parts).encode()).hexdigest()


@pytest.fixture
def mine() -> Iterator[Mine]:
    state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    yield Mine()
    torch.set_rng_state(state[0])
    np.random.set_state(state[1])
    random.setstate(state[2])


def test_the_digest_sees_what_it_should(mine: Mine) -> None:
    """A digest that nothing changes would prove nothing."""
    changes: list[Callable[[], object]] = [
        lambda: mine.model.head.weight.data.add_(1e-3),
        lambda: mine.model.norm.running_mean.add_(1e-3),  # type: ignore[union-attr]
        lambda: mine.model.zero_grad(),
        lambda: mine.model.eval(),
        lambda: mine.model.head.register_forward_hook(lambda *_: None),
        lambda: mine.model.trunk.requires_grad_(True),
        lambda: torch.rand(1),
        lambda: np.random.rand(),
        lambda: random.random(),
        lambda: torch.rand(1, generator=mine.generator),
    ]
    seen = {mine.digest()}
    assert mine.digest() in seen
    for number, change in enumerate(changes):
        change()
        assert mine.digest() not in seen, f"change {number}"
        seen.add(mine.digest())


@pytest.mark.long
def test_the_first_import_of_what_draws_leaves_no_trace() -> None:
    """In a process of its own: rich draws from `random` when it is imported, which happens once."""
    code = """
import random
import torch
import autoopt
data = [(torch.ones(2, 2), torch.ones(2, 1))]
before = random.getstate()
try:
    autoopt.choose(torch.nn.Linear(2, 1), data, lambda model, batch: model(batch[0]), val=data, budget="5s")
except autoopt.errors.WorkloadError as error:
    assert "not a scalar" in error.message
assert random.getstate() == before
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_choose_recommends_and_leaves_no_trace(mine: Mine, tmp_path: Path) -> None:
    before, handlers = mine.digest(), signal.getsignal(signal.SIGINT)
    rec = autoopt.choose(mine.model, mine.loader, mine.loss, out=tmp_path / "run", **OPTIONS)
    assert mine.digest() == before
    assert signal.getsignal(signal.SIGINT) is handlers
    assert mine.hooked > 100, "it was this very model that trained"

    assert rec.complete
    assert rec.recommendation.tuned
    assert rec.recommendation.optimizer in ("sgd", BASELINE)
    assert rec.workload.kind == "callables"
    assert rec.workload.trainable == sum(p.numel() for p in mine.model.parameters() if p.requires_grad)
    assert rec == Recommendation.load(tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith(".")}
    assert names == {"recommendation.yaml", "report.html", "events.jsonl"}, "no file for a script to import"

    optimizer, scheduler = rec.build(mine.model)
    assert mine.digest() == before
    weights = mine.model.head.weight.detach().clone()
    mine.loss(mine.model, next(iter(mine.loader))).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    scheduler.step()
    assert not torch.equal(weights, mine.model.head.weight)


def test_a_loss_that_raises_leaves_no_trace(mine: Mine) -> None:
    calls = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        calls.append(1)
        if model.training and len(calls) > 200:
            raise KeyError("column")
        return mine.loss(model, batch)

    before = mine.digest()
    with pytest.raises((NoResult, WorkloadError), match="column"):
        autoopt.choose(mine.model, mine.loader, loss, **OPTIONS)
    assert mine.digest() == before


def test_a_loss_that_cannot_be_used_leaves_no_trace(mine: Mine) -> None:
    before = mine.digest()
    with pytest.raises(WorkloadError, match="not a scalar"):
        autoopt.choose(mine.model, mine.loader, lambda model, batch: model(batch[0]), **OPTIONS)
    assert mine.digest() == before


def test_an_unknown_optimizer_leaves_no_trace(mine: Mine) -> None:
    before = mine.digest()
    with pytest.raises(UnknownOptimizer, match="sgdd"):
        autoopt.choose(mine.model, mine.loader, mine.loss, **OPTIONS | {"optimizers": ["sgdd"]})
    assert mine.digest() == before


def interrupting(mine: Mine, at: int, times: int) -> Callable[[nn.Module, Any], Tensor]:
    """A loss during which somebody presses Ctrl-C, once or twice."""
    calls = [0]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        calls[0] += 1
        if at <= calls[0] < at + times:
            signal.raise_signal(signal.SIGINT)
        return mine.loss(model, batch)

    return loss


def test_ctrl_c_once_gives_the_best_so_far_and_leaves_no_trace(mine: Mine) -> None:
    before = mine.digest()
    rec = autoopt.choose(mine.model, mine.loader, interrupting(mine, 400, 1), **OPTIONS)
    assert not rec.complete
    assert mine.digest() == before


def test_ctrl_c_twice_stops_at_once_and_leaves_no_trace(mine: Mine) -> None:
    before, handler = mine.digest(), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        autoopt.choose(mine.model, mine.loader, interrupting(mine, 400, 2), **OPTIONS)
    assert mine.digest() == before
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_while_it_measures_leaves_no_trace(mine: Mine) -> None:
    before = mine.digest()
    with pytest.raises(KeyboardInterrupt):
        autoopt.choose(mine.model, mine.loader, interrupting(mine, 2, 1), **OPTIONS)
    assert mine.digest() == before


def test_functions_and_closures_are_enough() -> None:
    scale = 3.0
    data = [(torch.full((4, 2), float(i)), torch.full((4, 1), scale * i)) for i in range(1, 9)]
    rec = autoopt.choose(
        model=lambda: nn.Linear(2, 1),
        train=lambda: iter(data),
        val=data[:2],
        loss=lambda model, batch: (model(batch[0]) - batch[1]).square().mean() / scale,
        configure_optimizers=lambda model: torch.optim.SGD(model.parameters(), lr=1e-4),
        **OPTIONS | {"budget": 60, "optimizers": ["adamw"]},
    )
    assert rec.workload.baseline.optimizer == "SGD"
    assert rec.workload.validation == "own"
    assert rec.against_yours.yours is not None
    assert rec.expected.loss is not None
    assert rec.expected.loss < rec.workload.initial_loss
