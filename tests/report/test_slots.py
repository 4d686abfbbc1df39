from __future__ import annotations

from autoopt.records import SlotsUsed
from autoopt.report.slots import sentence


def used(
    busy: float, planner: float = 0.0, nothing: float = 0.0, starting: float = 0.0, slots: int = 10
) -> SlotsUsed:
    return SlotsUsed(
        slots=slots, wall=10.0, busy=busy, planner=planner, nothing=nothing, starting=starting,
        questions=20, question_seconds=0.5, trial_seconds=2.0,
    )  # fmt: skip


def test_busy_slots_and_a_single_one_are_not_worth_a_word() -> None:
    assert sentence(None) == ""
    assert sentence(used(90.0, nothing=10.0)) == ""
    assert sentence(used(1.0, nothing=9.0, slots=1)) == ""


def test_each_reason_is_told_the_largest_first() -> None:
    words = sentence(used(30.0, planner=20.0, nothing=40.0, starting=10.0))
    assert words == (
        "10 slots, of which 3 were busy on average: for 40 % of the time nothing was worth starting; "
        "the planner needed 0.5 s a question for trials of 2 s, which keeps 4 busy; for 10 % workers were starting"
    )


def test_what_cost_next_to_nothing_is_left_out() -> None:
    words = sentence(used(50.0, planner=1.0, nothing=49.0))
    assert "planner" not in words
    assert "49 %" in words
