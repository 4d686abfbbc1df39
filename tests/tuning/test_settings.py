from __future__ import annotations

import pytest

from autoopt.optim.spec import Range
from autoopt.tuning.arm import Arm, Tried
from autoopt.tuning.settings import proposals

START = {"lr": 1e-3, "beta2": 0.99, "weight_decay": 0.1}


def arm() -> Arm:
    ranges = {
        "lr": Range(1e-5, 1e-1),
        "beta2": Range(0.9, 0.999, "one_minus_log"),
        "weight_decay": Range(1e-3, 1.0),
    }
    return Arm("adamw", dict(START), ranges)


def test_one_setting_is_moved_at_a_time_and_the_rate_never() -> None:
    found = list(proposals(arm(), START, 100, 0, decay=True))
    assert len(found) == 4
    for hyper in found:
        assert [k for k in START if hyper[k] != START[k]] in (["beta2"], ["weight_decay"])
    assert sorted(h["weight_decay"] for h in found if h["beta2"] == 0.99) == pytest.approx(
        [0.1 * 10**-0.5, 0.1 * 10**0.5], rel=1e-5
    )


def test_weight_decay_stays_where_it_cannot_be_judged() -> None:
    found = list(proposals(arm(), START, 100, 0, decay=False))
    assert found
    assert {h["weight_decay"] for h in found} == {0.1}


def test_a_setting_at_the_end_of_its_range_moves_inwards_only() -> None:
    found = list(proposals(arm(), {**START, "weight_decay": 1.0}, 100, 0, decay=True))
    assert sorted({h["weight_decay"] for h in found}) == pytest.approx([10**-0.5, 1.0], rel=1e-5)


def test_after_enough_trials_the_sampler_proposes_too_and_repeats_itself() -> None:
    a = arm()
    for i, wd in enumerate((0.01, 0.1, 0.5)):
        a.tried[i] = Tried(i, "race 1", 100, 0, {**START, "weight_decay": wd}, 0.5 + i)
    found = list(proposals(a, START, 100, 0, decay=True))
    assert len(found) == 5
    assert found[-1]["lr"] == START["lr"]
    assert 0.9 <= found[-1]["beta2"] <= 0.999
    assert 1e-3 <= found[-1]["weight_decay"] <= 1.0
    assert list(proposals(a, START, 100, 0, decay=True)) == found
    assert len(list(proposals(a, START, 200, 0, decay=True))) == 4, "at another length nothing was seen"


def test_the_users_own_has_nothing_to_move() -> None:
    assert list(proposals(Arm("baseline", {}, {}), {}, 100, 0, decay=True)) == []


def test_options_are_moved_too_at_the_same_settings() -> None:
    a = arm()
    a.ladders = {"clip": (0.0, 1.0), "warmup": (0.05, 0.0, 0.1)}
    found = list(proposals(a, START, 100, 0, decay=True))
    assert found[4:] == [{**START, "clip": 1.0}, {**START, "warmup": 0.0}, {**START, "warmup": 0.1}]


def test_the_sampler_hears_of_trials_with_the_same_options_only() -> None:
    a = arm()
    for i, wd in enumerate((0.01, 0.1, 0.5)):
        a.tried[i] = Tried(i, "race 1", 100, 0, {**START, "weight_decay": wd, "clip": 1.0}, 0.5 + i)
    assert len(list(proposals(a, START, 100, 0, decay=True))) == 4
    clipped = list(proposals(a, {**START, "clip": 1.0}, 100, 0, decay=True))
    assert len(clipped) == 5
    assert clipped[-1]["clip"] == 1.0
