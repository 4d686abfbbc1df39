from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from autoopt.memory.measured import StepMemory

CPU = torch.device("cpu")
FLOAT = 4


def net(width: int = 32, depth: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(layer for _ in range(depth) for layer in (nn.Linear(width, width, bias=False), nn.Tanh()))
    )


def measure(
    model: nn.Module,
    step: Callable[[], object],
    optimizer: torch.optim.Optimizer | None = None,
    batch: object = None,
) -> int:
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    with StepMemory(model, CPU, batch) as memory:
        step()
    optimizer.step()
    size, source = memory.peak_bytes(optimizer)
    assert source == "tracked"
    assert size is not None
    return size


def test_every_part_is_counted_once() -> None:
    width, rows, depth = 32, 100, 3
    model, inputs = net(width, depth), torch.randn(rows, width)
    size = measure(model, lambda: model(inputs).sum().backward(), torch.optim.Adam(model.parameters()))
    weights = depth * width * width
    # Tanh and the Linear after it save the same tensor; the first Linear saves the inputs.
    activations = (depth + 1) * rows * width
    adam = 2 * weights + depth  # two moments, and a step count for each weight
    assert size == FLOAT * (weights + weights + adam + activations)


def test_the_batch_can_be_left_out() -> None:
    model, inputs = net(), torch.randn(100, 32)

    def step() -> None:
        model(inputs).sum().backward()

    with_batch = measure(model, step)
    without = measure(model, step, batch={"x": [inputs], "y": "label"})
    assert with_batch - without == FLOAT * inputs.numel()


def test_buffers_count_and_views_do_not_count_twice() -> None:
    model = nn.BatchNorm1d(8)
    inputs = torch.randn(4, 8)
    size = measure(model, lambda: model(inputs[:2].detach()).mean().backward(), batch=inputs)
    # Saved beyond weight, running statistics and inputs: mean and inverse deviation of the batch.
    assert (
        size == FLOAT * (2 * 8 + 2 * 8 + 2 * 8 + 2 * 8) + 8
    )  # weights, gradients, statistics; the step count


def test_the_peak_is_over_time_not_a_sum() -> None:
    """Two passes one after the other hold as much as one; two kept together hold twice as much."""
    model, inputs = net(), torch.randn(200, 32)

    def one() -> None:
        model(inputs).sum().backward()

    def accumulated() -> None:
        one()
        one()

    def together() -> None:
        (model(inputs).sum() + model(inputs * 1.0).sum()).backward()

    assert measure(model, accumulated) == measure(model, one)
    assert measure(model, together) > measure(model, one) + 3 * FLOAT * inputs.numel()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_is_seen_to_save_memory(reentrant: bool) -> None:
    model, inputs = net(depth=8), torch.randn(300, 32, requires_grad=True)

    def plain() -> None:
        model(inputs).sum().backward()

    def checkpointed() -> None:
        hidden = inputs
        for part in (model[:8], model[8:]):
            hidden = checkpoint(part, hidden, use_reentrant=reentrant)
        hidden.sum().backward()

    assert measure(model, checkpointed) < 0.8 * measure(model, plain)


def test_second_order_gradients_are_right_and_cost_more() -> None:
    model, inputs = net(), torch.randn(50, 32)
    weights = list(model.parameters())

    def first() -> list[torch.Tensor]:
        return list(torch.autograd.grad(model(inputs).square().mean(), weights))

    def second() -> list[torch.Tensor]:
        slopes = torch.autograd.grad(model(inputs).square().mean(), weights, create_graph=True)
        penalty = torch.stack([slope.square().sum() for slope in slopes]).sum()
        return list(torch.autograd.grad(penalty, weights))

    expected = second()
    found: list[torch.Tensor] = []
    assert measure(model, lambda: found.extend(second())) > measure(model, first)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_backward_with_create_graph_can_be_differentiated_after_the_measurement() -> None:
    model, inputs = net(), torch.randn(50, 32)
    weights = list(model.parameters())
    slopes = torch.autograd.grad(model(inputs).square().mean(), weights, create_graph=True)
    expected = torch.autograd.grad([s.sum() for s in slopes], weights)
    with StepMemory(model, CPU):
        slopes = torch.autograd.grad(model(inputs).square().mean(), weights, create_graph=True)
    found = torch.autograd.grad([s.sum() for s in slopes], weights)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_gradients_are_the_same_as_without_measuring() -> None:
    model, inputs = net(), torch.randn(50, 32)
    model(inputs).square().mean().backward()
    expected = [p.grad for p in model.parameters()]
    model.zero_grad()
    measure(
        model, lambda: model(inputs).square().mean().backward(), torch.optim.SGD(model.parameters(), lr=0.0)
    )
    torch.testing.assert_close([p.grad for p in model.parameters()], expected, rtol=0, atol=0)


def test_nothing_is_kept_alive_after_the_step() -> None:
    model, inputs = net(), torch.randn(50, 32)
    gc.collect()
    gc.disable()
    try:
        with StepMemory(model, CPU) as memory:
            hidden = model[:4](inputs)
            alive = weakref.ref(hidden)
            loss = model[4:](hidden).sum()
            loss.backward()
        del hidden, loss
        assert alive() is None
        assert memory.peak_bytes(torch.optim.SGD(model.parameters(), lr=0.1))[1] == "tracked"
    finally:
        gc.enable()


def test_torch_func_in_the_users_loss_works_and_the_size_is_unknown() -> None:
    model, inputs = net(), torch.randn(5, 32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss() -> torch.Tensor:
        slope = torch.func.grad(lambda x: model(x).sum())(inputs)
        return (model(inputs) - slope.detach()).square().mean()

    expected = loss()
    with StepMemory(model, CPU) as memory:
        found = loss()
        found.backward()
    torch.testing.assert_close(found, expected)
    assert memory.peak_bytes(optimizer) == (None, "unknown")
    torch.func.grad(torch.sin)(torch.tensor(1.0))
    with StepMemory(model, CPU) as again:
        model(inputs).sum().backward()
    assert again.peak_bytes(optimizer)[1] == "tracked"


def test_a_step_that_fails_is_unknown_and_leaves_no_hooks() -> None:
    model = net()
    memory = StepMemory(model, CPU)
    with pytest.raises(ZeroDivisionError), memory:
        _ = 1 / 0
    assert memory.peak_bytes(torch.optim.SGD(model.parameters(), lr=0.1)) == (None, "unknown")
    torch.func.grad(torch.sin)(torch.tensor(1.0))


def test_sparse_gradients_count_what_they_hold() -> None:
    model = nn.Embedding(10_000, 8, sparse=True)
    rows = torch.arange(16)
    with StepMemory(model, CPU, batch=rows) as memory:
        model(rows).sum().backward()
    size, _ = memory.peak_bytes(torch.optim.SGD(model.parameters(), lr=0.1))
    assert size == FLOAT * 10_000 * 8 + 16 * 8 * FLOAT + 16 * 8  # table, gradient's values and int64 indices


def test_tied_weights_count_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.out = nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False)
            self.out.weight = self.into.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.into(x))  # type: ignore[no-any-return]

    model, inputs = Tied(), torch.randn(4, 32)
    size = measure(model, lambda: model(inputs).sum().backward(), batch=inputs)
    assert size == FLOAT * (32 * 32 + 32 * 32 + 4 * 32)


def test_other_devices_are_unknown() -> None:
    model = net().to("meta")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with StepMemory(model, torch.device("meta")) as memory:
        model(torch.empty(3, 32, device="meta")).sum().backward()
    assert memory.peak_bytes(optimizer) == (None, "unknown")
    assert memory.process_bytes() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_allocators_peak_is_read() -> None:
    device = torch.device("cuda:0")
    model = net(256).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs = torch.randn(4096, 256, device=device)
    with StepMemory(model, device) as memory:
        model(inputs).sum().backward()
    optimizer.step()
    size, source = memory.peak_bytes(optimizer)
    assert source == "allocator"
    assert size is not None
    assert size > 3 * FLOAT * inputs.numel()
    held = memory.process_bytes()
    assert held is None or held > size


def test_a_step_that_fails_leaves_nothing_behind() -> None:
    """Tanh keeps its own result: without care that cycle would outlive the step, and hold memory that ran out."""
    model, inputs = net(), torch.randn(50, 32)
    seen: list[weakref.ref[torch.UntypedStorage]] = []

    def step() -> None:
        out = model(inputs)
        seen.append(weakref.ref(out.untyped_storage()))
        raise MemoryError("full")

    with pytest.raises(MemoryError), StepMemory(model, CPU):
        step()
    gc.collect()
    assert seen[0]() is None
