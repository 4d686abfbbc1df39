from __future__ import annotations

import math

from autoopt.optim.spec import Range
from autoopt.tuning.study import Told, suggest

RANGES = {"lr": Range(1e-5, 1e-1), "beta2": Range(0.9, 0.9999, "one_minus_log")}


def bowl(lr: float) -> float:
    return (math.log10(lr) + 3) ** 2


def test_an_enqueued_point_is_taken_as_it_is() -> None:
    point = {"lr": 2e-3, "beta2": 0.95}
    assert suggest("adamw", RANGES, [], [], seed=0, number=1, enqueue=point) == point


def test_the_same_history_gives_the_same_point() -> None:
    told = [Told({"lr": 10.0**-i, "beta2": 0.99}, bowl(10.0**-i)) for i in range(1, 5)]
    first = suggest("adamw", RANGES, told, [], seed=3, number=7)
    assert suggest("adamw", RANGES, told, [], seed=3, number=7) == first
    assert suggest("adamw", RANGES, told, [], seed=4, number=7) != first
    assert suggest("lion", RANGES, told, [], seed=3, number=7) != first


def test_points_stay_in_the_ranges() -> None:
    for number in range(20):
        point = suggest("adamw", RANGES, [], [], seed=0, number=number)
        assert all(RANGES[k].low * 0.999 <= v <= RANGES[k].high * 1.001 for k, v in point.items())


def test_the_sampler_learns_from_what_it_is_told() -> None:
    told: list[Told] = []
    for number in range(40):
        point = suggest("adamw", RANGES, told, [], seed=0, number=number)
        told.append(Told(point, bowl(point["lr"])))
    late = sorted(abs(math.log10(t.hyper["lr"]) + 3) for t in told[25:])
    assert late[len(late) // 2] < 0.8, "points drawn at random lie 1.0 decades away in the median"


def test_a_value_outside_the_ranges_can_be_told() -> None:
    told = [Told({"lr": 5.0, "beta2": 0.5}, 1.0)]
    assert set(suggest("adamw", RANGES, told, [{"lr": 1e-3, "beta2": 0.9}], seed=0, number=1)) == set(RANGES)
