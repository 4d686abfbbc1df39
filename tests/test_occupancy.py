"""What slots do while trials run: who has a trial, and what the others wait for."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from autoopt.occupancy import Occupancy


@dataclass
class Hand:
    """A clock that is moved by hand."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_slot_that_is_filled_later_waited_for_the_planner() -> None:
    clock = Hand()
    counted = Occupancy(clock)
    counted.round(2)
    for trial in (1, 2):
        asked = clock.now
        clock.now += 0.5
        counted.answered(trial, asked)
    clock.now = 10.0
    counted.told(1, 0.0)
    counted.told(2, 0.0)
    used = counted.used()
    assert (used.slots, used.questions, used.wall) == (2, 2, 10.0)
    assert used.planner == pytest.approx(0.5 + 1.0)
    assert used.busy == pytest.approx(9.5 + 9.0)
    assert (used.nothing, used.starting) == (0.0, 0.0)
    assert used.question_seconds == pytest.approx(0.5)
    assert used.most == pytest.approx(used.trial_seconds / 0.5)


def test_slots_for_which_there_is_nothing_wait_for_that_until_the_next_question() -> None:
    clock = Hand()
    counted = Occupancy(clock)
    counted.round(3)
    counted.answered(1, 0.0)
    counted.nothing(2)
    clock.now = 4.0
    counted.told(1, 0.0)
    counted.round(3)
    counted.answered(2, 4.0)
    counted.nothing(2)
    clock.now = 6.0
    counted.told(2, 0.0)
    used = counted.used()
    assert used.nothing == pytest.approx(2 * 6.0)
    assert used.busy == pytest.approx(6.0)
    assert used.planner == 0.0


def test_questions_that_are_broken_off_keep_the_rest_waiting_for_the_planner() -> None:
    clock = Hand()
    counted = Occupancy(clock)
    counted.round(5)
    clock.now = 1.0
    counted.answered(1, 0.0)
    counted.thinking(4)
    counted.told(1, 0.0)
    used = counted.used()
    assert used.planner == pytest.approx(5.0)
    assert used.total == pytest.approx(5.0)


def test_what_is_neither_is_a_worker_that_starts() -> None:
    clock = Hand()
    counted = Occupancy(clock)
    counted.round(2)
    counted.answered(1, 0.0)  # the other one is not there yet
    clock.now = 3.0
    counted.told(1, 0.0)
    assert counted.used().starting == pytest.approx(3.0)


def test_two_sittings_are_added() -> None:
    clock = Hand()
    counted = Occupancy(clock)
    counted.round(1)
    counted.answered(1, 0.0)
    clock.now = 2.0
    counted.told(1, 0.2)
    one = counted.used()
    both = one + one.model_copy(update={"questions": 3, "question_seconds": 0.6})
    assert both.questions == 4
    assert both.question_seconds == pytest.approx((0.2 + 3 * 0.6) / 4)
    assert both.busy == 2 * one.busy
