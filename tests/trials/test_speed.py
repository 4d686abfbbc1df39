"""Medians, quartiles and means of laps written by hand."""

from __future__ import annotations

import pytest

from autoopt.timing import Lap
from autoopt.trials.speed import summarise, warm_from


def lap(data: float = 0.1, forward: float = 1.0, backward: float = 2.0, optimizer: float = 0.5) -> Lap:
    return {"data": data, "forward": forward, "backward": backward, "optimizer": optimizer, "other": 0.25}


def test_the_parts_are_medians_and_the_step_is_all_but_the_data() -> None:
    laps = [lap(forward=1.0), lap(forward=9.0), lap(forward=1.2), lap(forward=1.1), lap(forward=1.0)]
    speed = summarise(laps, clock="host", warmup_steps=3, warmup_seconds=7.0, compile_seconds=2.0, samples=32)
    assert speed is not None
    assert speed.forward is not None
    assert speed.forward.seconds == pytest.approx(1.1)
    assert speed.forward.low <= speed.forward.seconds <= speed.forward.high < 9
    assert speed.step.seconds == pytest.approx(3.85)
    assert speed.samples_per_second == pytest.approx(32 / 3.95)
    assert speed.data_share == pytest.approx(0.1 / 3.95)
    assert (speed.steps, speed.warmup_steps, speed.warmup_seconds) == (5, 3, 7.0)
    assert speed.compile_seconds == 2.0


def test_a_periodic_cost_is_averaged_over_whole_periods() -> None:
    dear = [lap(optimizer=8.0 if i % 4 == 3 else 0.0) for i in range(11)]
    speed = summarise(dear, clock="device", period=4)
    assert speed is not None
    assert speed.optimizer is not None
    assert speed.steps == 8
    assert speed.optimizer.seconds == pytest.approx(2.0), "a median would be 0"
    assert speed.step.seconds == pytest.approx(5.25)
    assert speed.data.seconds == pytest.approx(0.1)


def test_what_happens_inside_the_optimizer_is_not_told_apart() -> None:
    speed = summarise([{"data": 0.5, "optimizer": 0.1, "inside": 4.0} for _ in range(4)], clock="host")
    assert speed is not None
    assert (speed.forward, speed.backward, speed.optimizer) == (None, None, None)
    assert speed.step.seconds == pytest.approx(4.1)


@pytest.mark.parametrize(("laps", "period"), [(0, 1), (2, 1), (6, 7)])
def test_too_few_steps_tell_nothing(laps: int, period: int) -> None:
    assert summarise([lap()] * laps, clock="host", period=period) is None


def test_warming_up_is_a_tenth_and_at_least_three_steps() -> None:
    assert [warm_from(n) for n in (1, 2, 4, 30, 500)] == [0, 1, 3, 3, 50]
