from __future__ import annotations

import math
import time

import pytest

from autoopt.records import Outcome, Settings, TrialResult, TrialSpec
from autoopt.trials.runner import Progress
from benchmarks import adamw

SETTINGS = Settings(steps=7)


class Bowl:
    """A runner of two slots in which AdamW is best at a rate of 0.02, without training anything."""

    slots = 2

    def __init__(self) -> None:
        self.running: dict[int, TrialSpec] = {}
        self.seen: list[TrialSpec] = []
        self.most = 0

    def idle(self) -> list[int]:
        return [slot for slot in range(self.slots) if slot not in self.running]

    def submit(self, slot: int, spec: TrialSpec) -> None:
        self.running[slot] = spec
        self.seen.append(spec)
        self.most = max(self.most, len(self.running))

    def wait(self, timeout: float) -> list[Progress | TrialResult]:
        slot = next(iter(self.running))
        spec = self.running.pop(slot)
        rate = spec.hyper["lr"]
        loss = math.log10(rate / 0.02) ** 2 + 0.01 * spec.seed
        if rate > 0.09:
            return [TrialResult(spec=spec, outcome=Outcome.DIVERGED)]
        seconds = {"total": 1e-4}
        return [TrialResult(spec=spec, outcome=Outcome.COMPLETED, loss=loss, metric=-loss, seconds=seconds)]


def test_tuning_finds_the_rate_at_full_length_on_one_seed_and_keeps_all_slots_busy() -> None:
    runner = Bowl()
    tuned = adamw.tune(runner, SETTINGS, budget=0.5, begin=time.monotonic())  # type: ignore[arg-type]
    assert tuned.hyper["lr"] == pytest.approx(0.02, rel=0.1)
    assert tuned.trials == len(runner.seen)
    assert {(spec.steps, spec.seed, spec.optimizer) for spec in runner.seen} == {(7, 0, "adamw")}
    assert runner.most == 2
    assert len({spec.id for spec in runner.seen}) == len(runner.seen)


def test_no_run_is_started_after_the_budget() -> None:
    runner = Bowl()
    with pytest.raises(ValueError, match="larger budget"):
        adamw.tune(runner, SETTINGS, budget=1.0, begin=time.monotonic() - 2)  # type: ignore[arg-type]
    assert not runner.seen


def test_seeds_come_back_in_their_order() -> None:
    results = adamw.run_seeds(Bowl(), {"lr": 0.02}, SETTINGS, [5, 3, 4])  # type: ignore[arg-type]
    assert [result.spec.seed for result in results] == [5, 3, 4]
    assert [result.loss for result in results] == pytest.approx([0.05, 0.03, 0.04])


def test_the_best_is_by_the_metric_of_the_file_and_ties_go_to_the_loss() -> None:
    def result(number: int, loss: float, metric: float) -> TrialResult:
        spec = TrialSpec(id=number, stage="", optimizer="adamw", hyper={"lr": 1.0}, steps=1, seed=0)
        return TrialResult(spec=spec, outcome=Outcome.COMPLETED, loss=loss, metric=metric)

    results = [result(0, 0.1, 0.8), result(1, 0.3, 0.9), result(2, 0.2, 0.9)]
    by_accuracy = Settings(metric=("accuracy", "max"))
    assert adamw.best(results, by_accuracy).spec.id == 2
    assert adamw.best(results, SETTINGS).spec.id == 0
