"""A recommendation with another batch than the run's own: everything that counts per step is the real run's."""

from __future__ import annotations

from typing import Any

import pytest

from autoopt.recommend import recommend
from autoopt.recommend.batches import in_steps_of
from autoopt.recommend.evidence import Evidence
from autoopt.records import BASELINE, Recommendation, Row, Settings
from autoopt.tuning.arm import key_of
from autoopt.tuning.race import FRESH_SEEDS
from tests.recommend.cases import RIVALS, evidence, tell
from tests.tuning.simulated import Machine

OWN = {"lr": 1e-3, "weight_decay": 0.01}
LARGER = {**OWN, "batch": 2.0}


def curve(steps: int, times: int, falls: float = 1.0) -> list[tuple[int, float]]:
    """Training losses that are the same after as many samples, whatever the batch."""
    taken = steps // times
    every = taken // 100
    return [(n, 0.5 + falls / (1 + n * times / 100)) for n in range(every, taken + 1, every)]


def found(better: bool = True, settings: dict[str, Any] | None = None) -> tuple[Evidence, Recommendation]:
    """AdamW with its own and with twice the batch, whose steps take 1.8 times as long."""
    machine = Machine(RIVALS, seconds=300.0)
    planner = machine.planner()
    planner.arms["adamw"].ladders = {"batch": (1.0, 2.0)}
    for seed in (0, FRESH_SEEDS, FRESH_SEEDS + 1):
        luck = 1 + 0.002 * (seed % 7)
        tell(planner, BASELINE, 0.6 * luck, seed=seed, curve=curve(1000, 1), samples_per_second=100.0)
        tell(planner, "adamw", 0.4 * luck, seed=seed, curve=curve(1000, 1), samples_per_second=100.0)
        tell(planner, "muon", 0.45 * luck, seed=seed, curve=curve(1000, 1), step_seconds=0.018)
        tell(
            planner,
            "adamw",
            (0.25 if better else 0.5) * luck,
            seed=seed,
            options={"batch": 2.0},
            step_seconds=0.018,
            curve=curve(1000, 2),
            samples_per_second=111.0,
            peak_bytes=240,
        )
    told = evidence(
        machine,
        planner,
        changes={"samples_per_batch": 64, "settings": Settings(steps=1000, accumulate=3, **(settings or {}))},
    )
    return told, recommend(told)


def row(rec: Recommendation, name: str) -> Row:
    return next(r for r in rec.optimizers if r.optimizer == name)


def test_the_choice_has_the_steps_the_warm_up_and_the_accumulation_of_the_real_run() -> None:
    _, rec = found()
    choice = rec.recommendation
    assert choice.hyper["batch"] == 2.0
    assert "batch" not in choice.arguments
    assert (choice.steps, choice.warmup_steps) == (500, 25)
    seen = choice.effective_batch
    assert seen is not None
    assert (seen.samples, seen.samples_per_batch, seen.accumulate, seen.ranks) == (384, 64, 6, 1)
    assert (
        "2 times as many samples a step (6 batches accumulated instead of 3), and so 500 steps" in rec.reason
    )
    assert (rec.settings.steps, rec.settings.accumulate) == (1000, 3), "what was asked for is kept"


def test_its_promise_is_in_the_steps_that_it_takes() -> None:
    _, rec = found()
    assert {band.step for band in rec.promise} == {5, 25, 50, 125, 500}
    for band in rec.promise:
        if band.of == "training loss" and 0.05 <= band.share < 1:
            there = [loss for step, loss in curve(1000, 2) if band.begin < step <= band.step]
            assert band.low < sum(there) / len(there) < band.high


def test_costs_are_compared_at_equal_samples() -> None:
    told, rec = found()
    key = key_of("adamw", LARGER)
    assert told.step_seconds("adamw", key) == rec.expected.step_seconds == 0.018
    assert told.pace("adamw", key) == 0.009
    assert told.pace("adamw") == told.step_seconds("adamw") == 0.01
    assert rec.expected.samples_per_second == 111.0
    assert (rec.expected.peak_bytes, told.expected(key_of("adamw", OWN)).peak_bytes) == (240, 200)
    assert row(rec, "adamw").relative_step_time == pytest.approx(1.0)
    assert row(rec, "muon").relative_step_time == pytest.approx(2.0), "0.018 s for half the samples"
    assert row(rec, "muon").seconds_to_adamw == pytest.approx(
        2 * (row(rec, "adamw").seconds_to_adamw or 0), rel=0.1
    )


def test_a_larger_batch_that_is_worse_changes_nothing() -> None:
    _, rec = found(better=False)
    choice = rec.recommendation
    assert "batch" not in choice.hyper
    assert (choice.steps, rec.expected.step_seconds, rec.expected.samples_per_second) == (1000, 0.01, 100.0)
    assert choice.effective_batch is not None
    assert choice.effective_batch.samples == 192
    assert {band.step for band in rec.promise} == {10, 50, 100, 250, 1000}


def test_of_a_distributed_run_it_says_what_each_process_takes() -> None:
    _, rec = found(settings={"ranks": 3})
    seen = rec.recommendation.effective_batch
    assert seen is not None
    assert (seen.samples, seen.accumulate, seen.ranks) == (384, 2, 3)
    assert str(seen) == "384 samples (64 a batch, 2 batches accumulated, 3 processes)"


def test_trials_are_told_in_the_steps_of_one_run() -> None:
    told, _ = found()
    own = next(r for r in told.planner.results if r.spec.hyper == OWN)
    larger = next(r for r in told.planner.results if r.spec.hyper == LARGER)
    assert in_steps_of(own, 1.0) is own
    assert in_steps_of(larger, 2.0).curve == larger.curve
    assert in_steps_of(larger, 2.0).spec.steps == in_steps_of(own, 2.0).spec.steps == 500
    assert in_steps_of(own, 2.0).curve[-1][0] == 500
    assert in_steps_of(larger, 1.0).curve == own.curve
