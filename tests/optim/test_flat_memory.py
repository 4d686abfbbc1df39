"""AdaHessian leaves nothing behind: the same live bytes after 1000 steps as after 100, without garbage collection."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from autoopt.optim.adahessian import AdaHessian

Loss = Callable[[], Tensor]
Step = Callable[[AdaHessian, Loss], None]
Hessian = Literal["double_backward", "finite_difference"]
EARLY, LATE = 100, 1000


def physics() -> tuple[nn.Module, Loss]:
    """A loss that itself differentiates: u' + u = 0 at some points, u(0) = 1."""
    net = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1))
    points = torch.linspace(0, 1, 4).unsqueeze(1)

    def loss() -> Tensor:
        x = points.clone().requires_grad_()
        u: Tensor = net(x)
        (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        total: Tensor = (du + u).square().mean() + (u[0] - 1).square().sum()
        return total

    return net, loss


def recurrent(kind: type[nn.RNNBase]) -> tuple[nn.Module, Loss]:
    net: nn.Module = kind(2, 2)
    x = torch.randn(2, 1, 2)

    def loss() -> Tensor:
        out: Tensor = net(x)[0]
        return out.square().mean()

    return net, loss


TASKS: dict[str, Callable[[], tuple[nn.Module, Loss]]] = {
    "physics": physics,
    "lstm": lambda: recurrent(nn.LSTM),
    "gru": lambda: recurrent(nn.GRU),
}


def closure(optimizer: AdaHessian, loss: Loss) -> None:
    optimizer.step(loss)


def closure_with_backward(optimizer: AdaHessian, loss: Loss) -> None:
    def run() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        torch.autograd.backward(value, create_graph=optimizer.create_graph)
        return value

    optimizer.step(run)


def backward_first(optimizer: AdaHessian, loss: Loss) -> None:
    optimizer.zero_grad()
    with optimizer.graph_context():
        torch.autograd.backward(loss(), create_graph=optimizer.create_graph)
    optimizer.step()


@contextmanager
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


def live() -> tuple[int, int]:
    """Tensors that are alive, and their bytes."""
    tensors = [o for o in gc.get_objects() if issubclass(type(o), Tensor)]
    return len(tensors), sum(t.numel() * t.element_size() for t in tensors)


CASES: list[tuple[Hessian, Step]] = [
    ("double_backward", closure),
    ("double_backward", closure_with_backward),
    ("double_backward", backward_first),
    ("finite_difference", closure),
    ("finite_difference", closure_with_backward),
]


# Every convention on the hard case; 1000 steps take seconds, so the recurrent nets share them.
RUNS: list[tuple[str, Hessian, Step]] = [
    *[("physics", hessian, step) for hessian, step in CASES],
    ("lstm", "double_backward", closure_with_backward),
    ("gru", "double_backward", backward_first),
    ("lstm", "finite_difference", closure),
]


@pytest.mark.parametrize(("task", "hessian", "step"), RUNS)
def test_memory_is_flat_over_1000_steps(task: str, hessian: Hessian, step: Step) -> None:
    torch.manual_seed(0)
    net, loss = TASKS[task]()
    optimizer = AdaHessian(net.parameters(), lr=1e-3, hessian=hessian, module=net)
    with no_collection():
        for _ in range(EARLY):
            step(optimizer, loss)
        early = live()
        for _ in range(LATE - EARLY):
            step(optimizer, loss)
        assert live() == early


# --- no graph where none is needed ---


def saved_by(run: Callable[[], object]) -> int:
    """How many tensors autograd saves for a backward pass meanwhile."""
    count = 0

    def pack(t: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        run()
    return count


def plain_gradients(loss: Loss, net: nn.Module) -> None:
    torch.autograd.grad(loss(), list(net.parameters()), allow_unused=True)


@pytest.mark.parametrize(("hessian", "step"), CASES)
def test_steps_that_need_no_graph_build_none(hessian: Hessian, step: Step) -> None:
    torch.manual_seed(0)
    net, loss = TASKS["gru"]()
    optimizer = AdaHessian(net.parameters(), lr=1e-3, hessian=hessian, module=net, update_each=4)
    first_order = saved_by(lambda: plain_gradients(loss, net))
    saved = [saved_by(lambda: step(optimizer, loss)) for _ in range(8)]
    refreshes = [saved.pop(4), saved.pop(0)]
    assert saved == [first_order] * 6
    if hessian == "double_backward":
        assert min(refreshes) > first_order
    else:
        assert refreshes == [2 * first_order] * 2  # two evaluations, each of first order
