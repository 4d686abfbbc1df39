from __future__ import annotations

from typing import Any

import pytest

from autoopt.optim import registry
from autoopt.policy_options import Tune
from autoopt.records import Settings
from autoopt.tuning import options
from tests.tuning.simulated import report

SPIKY = [0.5, 0.52, 0.48, 0.51, 0.47, 20.0, 0.5]
CALM = [0.5, 0.52, 0.48, 0.51, 0.47, 0.9, 0.5]


def found(norms: list[float], settings: dict[str, Any] | None = None, **tune: Any) -> options.Options:
    told = report(100, 0.01).model_copy(
        update={"gradient_norms": norms, "settings": Settings(steps=100, **settings or {})}
    )
    return options.of(Tune.model_validate(tune), told)


def test_gradients_that_spike_are_clipped_to_the_usual_norm_and_the_user_is_told() -> None:
    made = found(SPIKY)
    assert made.start == {"clip": 0.5}
    assert made.ladders == {}
    assert "40 times the usual one" in made.notes[0]
    assert "clipped to a norm of 0.5" in made.notes[0]


@pytest.mark.parametrize("norms", [CALM, [], [0.5, 20.0, 0.5], [0.0] * 6])
def test_calm_or_unknown_ones_are_left_alone(norms: list[float]) -> None:
    assert found(norms) == options.Options({}, {}, [])


def test_what_the_user_decided_stays_none_included() -> None:
    assert found(SPIKY, {"clip": 2.0, "origins": {"clip": "file"}}).start == {}
    assert found(SPIKY, {"clip": None, "origins": {"clip": "file"}}).start == {}
    assert found(SPIKY, {"clip": None, "origins": {"clip": "default"}}).start == {"clip": 0.5}


def test_off_is_off() -> None:
    assert found(SPIKY, clip="off") == options.Options({}, {}, [])


def test_of_a_list_the_real_runs_own_value_is_the_first() -> None:
    made = found(SPIKY, {"clip": 2.0}, clip=[1.0, 2.0, 5.0], warmup=[0.05, 0.1])
    assert made.start == {}
    assert made.ladders == {"clip": (2.0, 1.0, 5.0), "warmup": (0.05, 0.1)}
    assert found(CALM, clip=[1.0]).ladders == {"clip": (0.0, 1.0)}
    assert found(CALM, clip=[0.0], warmup=[0.05]).ladders == {}, "nothing but what is there"


def test_ones_own_schedule_has_its_own_warm_up() -> None:
    made = found(CALM, {"schedule": "yours"}, warmup=[0.1])
    assert made.ladders == {}
    assert "your own schedule" in made.notes[0]


def test_places_are_steps_between_values_and_no_clipping_is_above_all_norms() -> None:
    ladder = (1.0, 5.0, 0.5, 0.0)
    assert [options.place(v, ladder, "clip") for v in (None, 0.5, 1.0, 5.0, 0.0)] == [0, -1, 0, 1, 2]
    assert [options.place(v, (0.05, 0.0, 0.1), "warmup") for v in (0.0, 0.05, 0.1)] == [-1, 0, 1]
    assert options.place(3.0, ladder, "clip") == 1, "a value of another policy, in a resumed run"


def test_one_option_is_moved_at_a_time_and_back_to_the_very_same_configuration() -> None:
    ladders = {"clip": (0.0, 1.0, 5.0), "warmup": (0.05, 0.1)}
    start = {"lr": 0.1}
    moved = options.others(ladders, start, start)
    assert moved == [{"lr": 0.1, "clip": 1.0}, {"lr": 0.1, "clip": 5.0}, {"lr": 0.1, "warmup": 0.1}]
    assert start in options.others(ladders, moved[0], start)
    own = {"lr": 0.1, "clip": 1.0}
    assert own in options.others({"clip": (1.0, 2.0)}, {"lr": 0.1, "clip": 2.0}, own)


def test_batches_are_multiples_of_what_the_run_takes() -> None:
    made = found(CALM, {"accumulate": 2}, batch_size=[2, 0.5, 4])
    assert made.ladders == {"batch": (1.0, 2.0, 0.5)}
    assert made.notes == ["4 times the batch was not tried: it leaves 25 of 100 steps"]


def test_a_batch_that_cannot_be_divided_is_told() -> None:
    made = found(CALM, batch_size=[0.5])
    assert made.ladders == {}
    assert "a step takes 1 batch, which cannot be divided" in made.notes[0]
    shared = found(CALM, {"accumulate": 4, "ranks": 4}, batch_size=[2, 0.5])
    assert shared.ladders == {"batch": (1.0, 2.0)}
    assert "1 batch in each of 4 processes" in shared.notes[0]


def test_each_batch_is_tried_at_the_rate_as_it_is_and_at_the_scaled_one() -> None:
    ladders, leader = {"batch": (1.0, 4.0, 0.5)}, {"lr": 0.1, "beta1": 0.9}
    assert options.others(ladders, leader, {"lr": 0.1}) == [
        {**leader, "batch": 4.0},
        {**leader, "batch": 0.5},
    ]
    assert options.scaled_rates(ladders, "adamw", leader) == [
        {**leader, "batch": 4.0, "lr": 0.2},
        {**leader, "batch": 0.5, "lr": 0.0707},
    ]
    assert options.scaled_rates(ladders, "sgd", leader)[0]["lr"] == 0.4
    assert options.scaled_rates(ladders, "prodigy", leader) == [], "it finds its rate itself"
    from_there = options.scaled_rates(ladders, "sgd", {"lr": 0.4, "batch": 4.0})
    assert from_there == [{"lr": 0.05, "batch": 0.5}], "not back to the run's own, where the rates are known"


def test_a_second_order_optimizer_gets_no_larger_batch_since_its_memory_grows_with_it() -> None:
    ladders = {"clip": (0.0, 1.0), "batch": (1.0, 2.0, 0.5)}
    assert options.ladders_of(registry.get("adamw"), ladders) == ladders
    assert options.ladders_of(registry.get("adahessian"), ladders)["batch"] == (1.0, 0.5)
    assert "batch" not in options.ladders_of(registry.get("adahessian"), {"batch": (1.0, 2.0)})


def test_a_batch_in_words_says_steps_and_accumulation() -> None:
    said = options.words({"lr": 0.1, "batch": 2.0}, Settings(steps=100, accumulate=3))
    assert said == (
        "2 times as many samples a step (6 batches accumulated instead of 3), and so 50 steps instead of 100"
    )
