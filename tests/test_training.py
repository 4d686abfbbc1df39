"""The training loop against loops written by hand here."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoopt.optim import AdaHessian
from autoopt.records import Flags
from autoopt.schedule import multiplier
from autoopt.training import StepReport, autocast, set_mode, set_rate, train
from autoopt.workload import Workload, from_callables

STEPS = 6


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1))


def data(n: int = 20) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 4, 5, generator=generator)
    return [(a, 5 * a.prod(1, keepdim=True) + a[:, :1]) for a in x]


def squared(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    error: Tensor = model(x) - y
    return error.square().mean()


def both(model: nn.Module, batches: list[Any]) -> Tensor:
    return squared(model, batches[0]) / 2 + squared(model, batches[1]) / 2


def workload(**flags: Any) -> Workload:
    return from_callables(model=net, train=data(), val=data(2), loss=squared, flags=Flags(**flags))


def cosine(step: int) -> float:
    return multiplier("cosine", step, STEPS, 2)


def ours(
    model: nn.Module, optimizer: torch.optim.Optimizer, around: Any = None, **flags: Any
) -> list[StepReport]:
    return list(
        train(
            model,
            workload(**flags),
            optimizer,
            itertools.cycle(data()),
            steps=STEPS,
            multiplier=cosine,
            around=around,
        )
    )


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_is_what_the_page_says_bit_for_bit(precision: str) -> None:
    """Rate of this step, gradients cleared, accumulate, clip, step: AdamW with all of them."""
    mine, theirs = net(), net()
    optimizer = torch.optim.AdamW(mine.parameters(), lr=0.01, weight_decay=0.1)
    reports = ours(mine, optimizer, accumulate=3, clip=0.5, precision=precision)

    other = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1)
    batches, losses, norms = itertools.cycle(data()), [], []
    for step in range(STEPS):
        for group in other.param_groups:
            group["lr"] = 0.01 * cosine(step)
        other.zero_grad()
        total = 0.0
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = squared(theirs, next(batches)) / 3
            torch.autograd.backward(loss)
            total += loss.item()
        norms.append(float(nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)))
        other.step()
        losses.append(total)
    assert max(norms) > 0.5, "or clipping was never tried"
    assert same(mine, theirs)
    assert [r.loss for r in reports] == losses
    assert [r.step for r in reports] == [1, 2, 3, 4, 5, 6]
    assert all(r.seconds > 0 and r.data_seconds >= 0 for r in reports)


@pytest.mark.parametrize("changed", [{"clip": None}, {"accumulate": 1}, {"precision": "bf16"}])
def test_every_setting_counts(changed: dict[str, Any]) -> None:
    models = []
    for flags in ({}, changed):
        model = net()
        ours(
            model,
            torch.optim.SGD(model.parameters(), lr=0.01),
            **{"clip": 0.5, "accumulate": 2, "precision": "fp32"} | flags,
        )
        models.append(model)
    assert not same(*models)


def test_a_second_order_optimizer_gets_the_loss_as_a_closure_and_clips_by_itself() -> None:
    mine, theirs = net(), net()

    def make(model: nn.Module) -> AdaHessian:
        return AdaHessian(model.parameters(), lr=0.05, generator=torch.Generator().manual_seed(5))

    optimizer = make(mine)
    reports = ours(mine, optimizer, accumulate=2, clip=0.5)
    assert optimizer.param_groups[0]["max_grad_norm"] == 0.5
    assert optimizer.module is mine

    other, batches = make(theirs), itertools.cycle(data())
    for group in other.param_groups:
        group["max_grad_norm"] = 0.5
    losses = []
    for step in range(STEPS):
        two = [next(batches), next(batches)]
        other.param_groups[0]["lr"] = 0.05 * cosine(step)
        value = other.step(partial(both, theirs, two))
        losses.append(float(value))
    assert [r.loss for r in reports] == pytest.approx(losses, rel=1e-6)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_rate_is_the_schedule_of_the_initial_one_in_every_group() -> None:
    model = net()
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters(), "lr": 0.02}], lr=1.0
    )
    seen: list[list[float]] = []

    @contextmanager
    def watch(step: int) -> Iterator[None]:
        assert step == len(seen)
        seen.append([group["lr"] for group in optimizer.param_groups])
        yield

    ours(model, optimizer, around=watch)
    assert seen == [[pytest.approx(0.1 * cosine(s)), pytest.approx(0.02 * cosine(s))] for s in range(STEPS)]


def test_setting_a_rate_twice_does_not_compound() -> None:
    optimizer = torch.optim.SGD(net().parameters(), lr=0.1)
    for _ in range(3):
        set_rate(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.05
    set_rate(optimizer, 1.0)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_fp16_scales_unscales_clips_and_skips_steps_that_overflow() -> None:
    mine, theirs = net(), net()
    start = net()
    ours(mine, torch.optim.SGD(mine.parameters(), lr=0.01), precision="fp16", clip=0.5)

    other, scaler = torch.optim.SGD(theirs.parameters(), lr=0.01), torch.amp.GradScaler("cpu")
    for step, batch in zip(range(STEPS), itertools.cycle(data()), strict=False):
        other.param_groups[0]["lr"] = 0.01 * cosine(step)
        other.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = squared(theirs, batch)
        torch.autograd.backward(scaler.scale(loss))
        scaler.unscale_(other)
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        scaler.step(other)
        scaler.update()
    assert same(mine, theirs)
    moved = [(a - b).norm() for a, b in zip(mine.parameters(), start.parameters(), strict=True)]
    assert 0 < max(moved) < 0.01 * 0.5 * STEPS * 1.01, "no step is longer than rate times clip"


def test_a_loss_that_is_not_finite_is_reported_and_not_raised() -> None:
    model = net()
    bad = [(torch.full((4, 5), float("inf")), torch.zeros(4, 1))]
    steps = train(
        model,
        workload(),
        torch.optim.SGD(model.parameters(), lr=0.01),
        itertools.cycle(bad),
        steps=3,
        multiplier=cosine,
    )
    assert not torch.tensor(next(steps).loss).isfinite()


def test_after_step_runs_once_a_step_after_the_optimizer_without_gradients() -> None:
    seen: list[tuple[bool, Tensor]] = []

    def after_step(model: nn.Module) -> None:
        weight = next(model.parameters())
        seen.append((torch.is_grad_enabled(), weight.detach().clone()))
        weight.clamp_(-0.1, 0.1)

    load = from_callables(model=net, train=data(), val=data(2), loss=squared, after_step=after_step)
    model = copy.deepcopy(net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for report in train(
        model, load, optimizer, itertools.cycle(data()), steps=STEPS, multiplier=lambda step: 1.0
    ):
        assert next(model.parameters()).abs().max() <= 0.1
        assert len(seen) == report.step
    assert not any(grad for grad, _ in seen)
    assert seen[0][1].abs().max() > 0.1, "the optimizer had moved it before"


def test_the_caller_may_stop_after_any_step() -> None:
    model = net()
    taken = itertools.count()
    batches = ((next(taken), batch)[1] for batch in itertools.cycle(data()))
    steps = train(
        model,
        workload(accumulate=2),
        torch.optim.SGD(model.parameters(), lr=0.1),
        batches,
        steps=100,
        multiplier=cosine,
    )
    next(steps)
    next(steps)
    assert isinstance(steps, Generator)
    steps.close()
    assert next(taken) == 4, "no batch is drawn ahead"


def test_an_optimizer_of_two_weight_sets_is_switched_and_others_are_left_alone() -> None:
    schedulefree = pytest.importorskip("schedulefree")
    optimizer = schedulefree.AdamWScheduleFree(net().parameters(), lr=0.1)
    set_mode(optimizer, training=True)
    assert optimizer.param_groups[0]["train_mode"]
    set_mode(optimizer, training=False)
    assert not optimizer.param_groups[0]["train_mode"]
    set_mode(torch.optim.SGD(net().parameters(), lr=0.1), training=False)


def test_autocast_per_precision() -> None:
    x = torch.randn(2, 5)
    kinds = {}
    for precision in ("fp32", "bf16", "fp16"):
        with autocast(torch.device("cpu"), precision):
            kinds[precision] = net()(x).dtype
    assert kinds == {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
