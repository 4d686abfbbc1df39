"""Trials of a loop of the user's own, and what is measured of it before."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from autoopt.errors import UsageError, WorkloadError
from autoopt.optim import registry
from autoopt.records import BASELINE, Flags, Outcome, TrialResult
from autoopt.trials.drive import drive
from autoopt.trials.own_loop import LoopEngine
from autoopt.trials.testing import spec
from autoopt.workload import load, own_loop
from autoopt.workload.entry import load_any
from autoopt.workload.own_loop import OwnLoop


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def parabola(make_optimizer: Any, steps: int, seed: int, report: Any) -> Any:
    weight = nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = make_optimizer([weight])
    for step in range(steps):
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        optimizer.step()
        report(step, loss)
    return weight.detach().square().sum()


def engine(run: Any, *, steps: int = 40, **constants: Any) -> LoopEngine:
    return LoopEngine(own_loop.make(run, constants=constants, flags=Flags(steps=steps)))


def trial(made: LoopEngine, **more: Any) -> TrialResult:
    *_, result = drive(made, spec(1, "sgd", **{"lr": 0.05, "steps": 30, **more}), 0)
    assert isinstance(result, TrialResult)
    return result


def test_an_optimizer_that_is_not_installed_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "why_unavailable", lambda s: "gone" if s.name == "sgd" else None)
    report = engine(parabola).load(full=True)
    assert report is not None
    found = report.unavailable
    assert found["sgd"] == "gone"
    assert "adamw" not in found


def test_a_trial_trains_and_tells() -> None:
    result = trial(engine(parabola))
    assert result.outcome is Outcome.COMPLETED, result.message
    assert result.loss is not None
    assert result.loss < 1
    assert result.metric is None
    assert result.steps_done == 30
    assert result.curve[0] == (1, 13.0)
    assert result.step_seconds is not None
    assert result.state_bytes == 8, "the momentum of two numbers"
    assert result.process_bytes
    assert result.digests == []


def test_a_metric_to_maximise() -> None:
    def run(make_optimizer: Any, steps: int, seed: int, report: Any) -> dict[str, float]:
        return {"return": -float(parabola(make_optimizer, steps, seed, report))}

    result = trial(engine(run, METRIC=("return", "max")))
    assert result.loss is None
    assert result.metric is not None
    assert -1 < result.metric < 0


def test_divergence_ends_a_trial_at_the_report() -> None:
    result = trial(engine(parabola), lr=50.0)
    assert result.outcome is Outcome.DIVERGED
    assert result.steps_done < 30
    assert "training loss was" in result.message


def test_a_value_that_is_not_finite_is_divergence() -> None:
    def run(make_optimizer: Any, steps: int, seed: int, report: Any) -> float:
        return math.nan if float(parabola(make_optimizer, steps, seed, report)) < 12 else 1.0

    result = trial(engine(run))
    assert result.outcome is Outcome.DIVERGED
    assert "returned nan" in result.message


def test_a_cancelled_trial_cleans_up() -> None:
    cleaned = []

    def run(make_optimizer: Any, steps: int, seed: int, report: Any) -> Any:
        try:
            return parabola(make_optimizer, steps, seed, report)
        finally:
            cleaned.append(True)

    items = drive(engine(run), spec(1, "sgd", steps=30), 0, lambda: True)
    *_, result = items
    assert isinstance(result, TrialResult)
    assert result.outcome is Outcome.CANCELLED
    assert cleaned == [True]


def test_the_report_knows_what_the_loop_was_given() -> None:
    def run(make_optimizer: Any, steps: int, seed: int, report: Any) -> Any:
        generator, other = nn.Linear(3, 2), nn.Linear(2, 1)
        first, second = make_optimizer(generator), make_optimizer(other.parameters())
        for step in range(steps):
            loss = other(generator(torch.ones(4, 3))).square().mean()
            loss.backward()
            first.step()
            second.step()
            report(step, loss)
        return loss

    report = engine(run).load(full=True)
    assert report is not None
    assert (report.kind, report.parameters, report.trainable) == ("own loop", 11, 11)
    assert {g.label.partition(":")[0] for g in report.groups} == {"1. Linear", "2. parameters"}
    assert report.baseline.source == "default"
    assert report.reproducible_data
    assert report.pairing == "none"
    assert "closure" in report.unavailable["adahessian"]
    assert "given a module" in report.unavailable["muon"]
    assert any("paired=True" in note for note in report.warnings)


def test_the_value_before_training_is_the_initial_loss_and_nothing_is_trained_for_it() -> None:
    report = engine(parabola).load(full=True)
    assert report is not None
    assert report.initial_loss == pytest.approx(13.0)


def test_a_false_claim_of_pairing_is_told() -> None:
    free = torch.Generator()

    def run(make_optimizer: Any, steps: int, seed: int, report: Any) -> Any:
        def noisy(step: int, loss: Any) -> None:
            report(step, float(loss.detach()) + float(torch.rand(1, generator=free)))

        return parabola(make_optimizer, steps, seed, noisy)

    report = engine(run, PAIRED=True).load(full=True)
    assert report is not None
    assert report.pairing == "yours"
    assert any("reported other losses" in note for note in report.warnings)


def test_second_order_optimizers_take_part_where_there_is_a_closure() -> None:
    def run(make_optimizer: Any, steps: int, seed: int, report: Any) -> Any:
        weight = nn.Parameter(torch.tensor([3.0, -2.0]))
        optimizer = make_optimizer([weight])

        def closure() -> Any:
            optimizer.zero_grad()
            loss = weight.square().sum()
            loss.backward()
            return loss

        for step in range(steps):
            report(step, optimizer.step(closure))
        return weight.square().sum()

    made = engine(run, CLOSURE=True)
    report = made.load(full=True)
    assert report is not None
    assert "adahessian" not in report.unavailable
    *_, result = drive(made, spec(1, "adahessian", lr=0.3, steps=30), 0)
    assert isinstance(result, TrialResult)
    assert result.outcome is Outcome.COMPLETED, result.message
    assert result.loss is not None
    assert result.loss < 1


SHARED = nn.Parameter(torch.tensor([3.0, -2.0]))


def carries_on(make_optimizer: Any, steps: int, seed: int, report: Any) -> Any:
    optimizer = make_optimizer([SHARED])
    for step in range(steps):
        optimizer.zero_grad()
        loss = SHARED.square().sum()
        loss.backward()
        optimizer.step()
        report(step, loss)
    return SHARED.square().sum()


def test_weights_of_an_earlier_trial_are_refused() -> None:
    made = engine(carries_on)
    made.load(full=True)
    assert trial(made).outcome is Outcome.COMPLETED
    again = trial(made)
    assert again.outcome is Outcome.ERROR
    assert "goes on with the weights that an earlier trial has trained" in again.message


def wrong(returns: Any) -> Callable[..., Any]:
    def run(make_optimizer: Any, steps: int, seed: int, report: Any) -> Any:
        parabola(make_optimizer, steps, seed, report)
        return returns

    return run


def never_made(make_optimizer: Any, steps: int, seed: int, report: Any) -> float:
    return 1.0


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (wrong(None), r"run\(\) in test_own_loop.py:\d+ returned None"),
        (wrong("good"), "returned a str, not a number"),
        (wrong(math.nan), "returned nan before any training"),
        (wrong({"accuracy": 1.0}), "returned accuracy, and no 'loss'"),
        (never_made, "never called make_optimizer"),
        (lambda make_optimizer, steps: 1.0, "does not take four arguments"),
        (3, "run is a int"),
    ],
)
def test_what_is_wrong_with_a_run_is_named(run: Any, message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        engine(run).load(full=True)


def test_flags_of_our_loop_are_refused() -> None:
    with pytest.raises(UsageError, match="clip is the training loop's"):
        own_loop.make(parabola, constants={}, flags=Flags(steps=3, clip=1.0))


FILE = """
import torch
STEPS = 30
METRIC = ("distance", "min")

def run(make_optimizer, steps, seed, report):
    weight = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = make_optimizer([weight])
    for step in range(steps):
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        optimizer.step()
        report(step, loss)
    return weight.norm()

def configure_optimizers(parameters):
    return torch.optim.SGD(parameters, lr=1e-4)
"""


def test_a_file_with_a_loop_is_taken_as_one(tmp_path: Path) -> None:
    path = tmp_path / "loop.py"
    path.write_text(FILE)
    loop = load_any(str(path))
    assert isinstance(loop, OwnLoop)
    report = loop.report()
    loop.close()
    assert report.settings.metric == ("distance", "min")
    assert (report.baseline.optimizer, report.baseline.source) == ("SGD", "configure_optimizers")
    assert list(report.modules) == ["loop.py"]
    with pytest.raises(WorkloadError, match="training loop of its own"):
        load(str(path))


def test_the_baseline_trains_with_the_users_optimizer(tmp_path: Path) -> None:
    path = tmp_path / "loop.py"
    path.write_text(FILE)
    loop = load_any(str(path))
    assert isinstance(loop, OwnLoop)
    made = LoopEngine(loop)
    *_, result = drive(made, spec(1, BASELINE, steps=30).model_copy(update={"hyper": {}}), 0)
    made.close()
    assert isinstance(result, TrialResult)
    assert result.metric == pytest.approx(13**0.5, abs=0.05), "at 1e-4 it hardly moves"
