"""The timing pass on small models: who is in it, and that a dear optimizer is seen to be dear."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from autoopt.records import Flags, StepCost, StepCosts
from autoopt.workload import Workload, costs, from_callables

WIDTH = 16


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1))


def squared(model: nn.Module, batch: Any) -> torch.Tensor:
    error: torch.Tensor = model(batch).square().mean()
    return error


BATCH = torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def measured() -> Iterator[Callable[..., StepCosts | None]]:
    found: list[Workload] = []

    def measure(model: Callable[[], nn.Module] = net, flags: Flags | None = None, **options: Any) -> Any:
        workload = from_callables(
            model=model, train=[BATCH] * 8, val=[BATCH], loss=squared, flags=flags or Flags(steps=10)
        )
        found.append(workload)
        return costs.measure(workload, workload.start(0, 10), BATCH, **options)

    yield measure
    for workload in found:
        workload.close()


def by_name(made: StepCosts) -> dict[str, Any]:
    return {c.optimizer: c for c in made.optimizers}


def test_every_optimizer_takes_its_turns(measured: Callable[..., Any]) -> None:
    made = measured(tokens=64)
    found = by_name(made)
    assert {"adamw", "sgd", "adan", "sgd_sai", "adahessian"} <= found.keys()
    assert found["adamw"].relative == found["adamw"].relative_low == found["adamw"].relative_high == 1
    for cost in found.values():
        assert cost.low <= cost.seconds <= cost.high
        assert cost.samples_per_second == pytest.approx(32 / cost.seconds, rel=1e-4)
        assert cost.tokens_per_second == pytest.approx(64 / cost.seconds, rel=1e-4)
    assert found["adahessian"].own_seconds is None
    assert found["adahessian"].relative > 1, "it differentiates twice"
    assert found["sgd"].rounds == found["adamw"].rounds >= 3
    assert found["sgd"].seconds >= found["sgd"].own_seconds
    assert 0 < found["sgd"].share < 1
    assert made.seconds < costs.SECONDS + 1


def test_the_budget_of_the_pass_holds_and_slow_models_still_tell(measured: Callable[..., Any]) -> None:
    class Slow(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            time.sleep(0.06)
            return super().forward(input)

    began = time.perf_counter()
    made = measured(lambda: Slow(WIDTH, 1), seconds=0.5)
    assert time.perf_counter() - began < 3
    found = by_name(made)
    assert "adahessian" not in found, "its first step alone might take half of the time"
    assert made.shared_seconds >= 0.06
    assert found["sgd"].relative == pytest.approx(1, abs=0.2)


def test_a_dear_step_is_timed_outside_the_rounds_and_told_as_dear(
    measured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dear(torch.optim.Adagrad):
        def step(self, closure: Any = None) -> Any:
            time.sleep(0.15)
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adagrad", Dear)
    found = by_name(measured(seconds=1.0))
    assert found["adagrad"].rounds == 4, "once, and again, as it looks unusual"
    assert found["adagrad"].own_seconds >= 0.15
    assert found["adagrad"].reliable > 10
    assert found["adagrad"].relative > 10
    assert found["sgd"].rounds >= 3


@pytest.mark.parametrize("stalled", [1, 2])
def test_a_step_during_which_the_machine_was_busy_makes_nobody_dear(
    stalled: int, measured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stalled(torch.optim.Adagrad):
        """Its second step, or its first in the rounds, meets somebody else's load."""

        taken = 0

        def step(self, closure: Any = None) -> Any:
            if self.taken == stalled:
                time.sleep(0.4)
            self.taken += 1
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adagrad", Stalled)
    monkeypatch.setattr(costs, "_MOST", 1)
    found = by_name(measured(seconds=1.0))["adagrad"]
    assert found.rounds >= 2
    assert found.high > 0.1
    assert found.reliable < 10


def test_few_rounds_or_far_apart_ones_go_by_the_fastest() -> None:
    def cost(rounds: int, low: float, high: float, fastest: float | None = 1.5) -> StepCost:
        return StepCost(
            optimizer="muon",
            seconds=1.0,
            low=low,
            high=high,
            relative=55.0,
            relative_low=low,
            relative_high=high,
            rounds=rounds,
            fastest=fastest,
        )

    assert cost(2, 50, 60).reliable == 1.5
    assert cost(8, 2, 108).reliable == 1.5
    assert cost(8, 50, 60).reliable == 55, "enough rounds that agree"
    assert cost(2, 50, 60, fastest=None).reliable == 55, "of an earlier version's run"


def test_those_that_cannot_be_used_or_fail_are_left_out(
    measured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(torch.optim.NAdam):
        def step(self, closure: Any = None) -> Any:
            raise RuntimeError("not on this model")

    monkeypatch.setattr(torch.optim, "NAdam", Broken)
    found = by_name(measured(unavailable=["adan"]))
    assert not {"adan", "nadam"} & found.keys()
    assert "sgd" in found


def test_a_machine_without_time_for_rounds_still_tells_what_is_dear(
    measured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dear(torch.optim.Adagrad):
        def step(self, closure: Any = None) -> Any:
            time.sleep(0.1)
            return super().step(closure)

    class Slow(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            time.sleep(0.03)
            return super().forward(input)

    monkeypatch.setattr(torch.optim, "Adagrad", Dear)
    monkeypatch.setattr(costs, "_MOST", 0)
    found = by_name(measured(lambda: Slow(WIDTH, 1)))
    assert found["adamw"].rounds == found["sgd"].rounds == 1
    assert found["adagrad"].rounds == 4, "it looked unusual"
    assert found["adagrad"].relative > 2


def test_without_adamw_there_is_nothing_to_compare_with(measured: Callable[..., Any]) -> None:
    assert measured(unavailable=["adamw"]) is None


def test_states_that_do_not_fit_together_take_turns_in_groups(
    measured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "_STATES", 1)
    found = by_name(measured(seconds=4.0))
    assert {"adamw", "sgd", "adan", "sgd_sai"} <= found.keys()


def test_accumulation_and_clipping_are_part_of_the_step(measured: Callable[..., Any]) -> None:
    plain, four = measured(), measured(flags=Flags(steps=10, accumulate=4, clip=1.0))
    assert four.shared_seconds > 1.5 * plain.shared_seconds
    assert by_name(four)["sgd"].samples_per_second == pytest.approx(
        4 * 32 / by_name(four)["sgd"].seconds, rel=1e-4
    )
