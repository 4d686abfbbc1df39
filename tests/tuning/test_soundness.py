from __future__ import annotations

import math

import pytest

from autoopt.optim.spec import Range
from autoopt.tuning.arm import Arm, Tried
from autoopt.tuning.option import Option
from autoopt.tuning.soundness import EDGE_MARGIN, sound

TOTAL = 400


def arm(*tried: tuple[float, int, str]) -> Arm:
    """An optimizer with trials of (learning rate, steps, how they ended)."""
    made = Arm("a", {"lr": 1e-3}, {"lr": Range(1e-5, 1.0)})
    for number, (lr, steps, how) in enumerate(tried):
        y = {"alive": 0.5, "diverged": 2.0}.get(how)
        made.tried[number] = Tried(
            number, "test", steps, 0, {"lr": lr}, y, how == "diverged", how == "failed"
        )
    return made


def may(made: Arm, lr: float, **more: float) -> bool:
    return sound(made, Option("a", {"lr": lr, **more}), TOTAL)


def test_what_trained_in_full_is_sound_and_what_was_never_trained_is_not() -> None:
    made = arm((1e-3, TOTAL, "alive"), (1e-2, TOTAL, "failed"))
    assert may(made, 1e-3)
    assert not may(made, 1e-2), "it failed"
    assert not may(made, 5e-4), "no rate below was trained in full"
    assert not may(made, 1e-3, weight_decay=0.1), "other settings were not seen"


def test_between_rates_that_trained_is_sound() -> None:
    made = arm((1e-3, TOTAL, "alive"), (1e-2, TOTAL, "alive"))
    assert may(made, 3e-3)
    assert not may(made, 2e-2)


@pytest.mark.parametrize(("below", "expected"), [(0.4, True), (0.6, False)])
def test_shorter_trials_allow_half_a_decade_below(below: float, expected: bool) -> None:
    made = arm((1e-3, TOTAL // 4, "alive"))
    assert may(made, 10 ** (-3 - below)) is expected


def test_what_diverged_at_any_length_is_never_handed_over_nor_its_neighbours() -> None:
    made = arm((1e-3, TOTAL, "alive"), (1e-2, TOTAL // 4, "alive"), (1e-2, TOTAL, "diverged"))
    assert not may(made, 1e-2)
    edge = math.log10(1e-2)
    assert may(made, 10 ** (edge - EDGE_MARGIN - 0.01))
    assert not may(made, 10 ** (edge - EDGE_MARGIN + 0.01))


def test_nothing_is_sound_of_what_diverged_when_longer() -> None:
    made = arm((1e-2, TOTAL // 4, "alive"), (1e-2, TOTAL, "diverged"))
    assert not may(made, 5e-3)


def test_a_dropped_optimizer_has_nothing_to_hand_over() -> None:
    made = arm((1e-3, TOTAL, "alive"))
    made.dropped = "over the limit"
    assert not may(made, 1e-3)


def test_an_optimizer_without_a_rate_is_sound_once_it_trained() -> None:
    made = Arm("a", {}, {})
    assert not sound(made, Option("a", {}), TOTAL)
    made.tried[0] = Tried(0, "test", TOTAL, 0, {}, 0.5)
    assert sound(made, Option("a", {}), TOTAL)
