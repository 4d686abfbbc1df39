from __future__ import annotations

import random

import pytest

from benchmarks.choice import reliability
from benchmarks.choice.reliability import Said, at_most, bootstrapped, left_out, markdown, threshold


def said(workload: str, within: float, regret: float, *, share: float = 1.0, diverged: bool = False) -> Said:
    return Said(workload, 3.0, share, within, "high" if within > 0.5 else "medium", regret, diverged)


def honest(workload: str, number: int = 200) -> list[Said]:
    """Choices that are close exactly as often as they say."""
    draw = random.Random(workload)
    found = []
    for _ in range(number):
        within = draw.random()
        found.append(said(workload, within, 0.01 if draw.random() < within else 0.3))
    return found


def test_the_threshold_is_the_lowest_from_which_nine_in_ten_are_close() -> None:
    sure = [said("a", 0.9 - 0.001 * i, 0.0) for i in range(18)]
    unsure = [said("a", 0.4 - 0.001 * i, 0.5) for i in range(20)]
    # Two of twenty may be far: the second of the unsure ones still leaves nine in ten.
    assert threshold([*unsure, *sure]) == unsure[1].within


def test_no_threshold_rests_on_a_few_choices() -> None:
    assert threshold([said("a", 0.9, 0.0)] * 9) is None
    assert threshold([said("a", 0.9, 0.0)] * 10) == 0.9
    assert threshold([said("a", 0.9, 0.5)] * 100) is None


def test_a_workload_is_judged_by_the_others_alone() -> None:
    boaster = [said("boaster", 0.95, 0.5) for _ in range(50)]
    modest = [said("modest", 0.8, 0.0) for _ in range(50)]
    judged = left_out([*boaster, *modest])
    called = {s.workload for s, high in judged if high}
    # The modest one's threshold lets the boaster in; the boaster's lets nobody in.
    assert called == {"boaster"}


def test_honest_sayings_give_honest_labels() -> None:
    everything = [one for name in "abcdefgh" for one in honest(name)]
    sure = [s for s, high in left_out(everything) if high]
    assert len(sure) > 100
    assert sum(s.close for s in sure) / len(sure) > 0.85


def test_a_diverged_choice_is_never_close() -> None:
    assert not said("a", 0.9, 0.0, diverged=True).close
    assert said("a", 0.9, 0.05).close


def test_none_of_n_has_an_upper_bound() -> None:
    assert at_most(0) == 1.0
    assert at_most(1) == pytest.approx(0.95)
    assert (1 - at_most(100)) ** 100 == pytest.approx(0.05)


def test_the_interval_is_over_workloads_not_over_tunings() -> None:
    few = [[0.0] * 1000, [1.0] * 1000]
    assert bootstrapped(few) == (0.0, 1.0)
    low, high = bootstrapped([[0.1], [0.1], [0.1]])
    assert low == pytest.approx(high) == pytest.approx(0.1)


def test_the_tables_name_counts_and_refusals() -> None:
    text = markdown([*honest("a"), *honest("b"), said("c", 0.2, 0.9, share=0.25)])
    assert "0 of 401" in text
    assert "refused" in text
    assert "| medium |" in text
    assert "3 workloads alone" in text
    assert "diverged: 1 of 1" in reliability.markdown([said("c", 0.2, 0.9, diverged=True)])


def test_what_is_said_of_the_gain_is_held_against_what_came() -> None:
    ten = [Said("a", 3.0, 1.0, 0.5, "high", 0.0, False, 0.85, number < 8) for number in range(10)]
    silent = [Said("b", 3.0, 1.0, 0.5, "high", 0.0, False)]
    text = markdown([*ten, *silent])
    assert "| 80 to 90 % | 10 | 1 | 85 % | 80 % |" in text
