from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.records import BASELINE
from autoopt.tuning.ranking import Difference
from autoopt.tuning.verdict import Candidate, Verdict, at_equal_time, decide, pareto


def candidate(name: str, expected: float, time: float = 1.0, memory: float = 1.0) -> Candidate:
    return Candidate((name, ()), expected, {"time": time, "memory": memory})


def judge(
    pool: Sequence[Candidate],
    *,
    se: float = 0.005,
    tolerance: float = 0.02,
    tie_order: Sequence[str] = ("time", "memory"),
    leave_at: float = 0.5,
) -> Verdict:
    """With a belief whose differences all have the same standard error."""

    def gap(a: Candidate, b: Candidate) -> Difference:
        return Difference(a.expected - b.expected, se, 1e6, 1, True)

    return decide(pool, gap, tolerance=tolerance, tie_order=tie_order, leave_at=leave_at)


def test_the_lowest_wins() -> None:
    found = judge([candidate("a", 1.0), candidate("b", 0.5)])
    assert found.chosen.key[0] == "b"
    assert found.decided
    assert found.ties == []
    assert found.gaps["a", ()].mean == pytest.approx(0.5)


def test_a_shown_tie_goes_to_the_cheaper() -> None:
    found = judge([candidate("slow", 1.0, time=2.0), candidate("quick", 1.005, time=1.0)])
    assert found.chosen.key[0] == "quick"
    assert found.lowest.key[0] == "slow"
    assert found.ties == [("quick", ())]


def test_equal_times_leave_it_to_memory() -> None:
    pool = [candidate("fat", 1.0, memory=3.0), candidate("thin", 1.0, time=1.01, memory=1.0)]
    assert judge(pool).chosen.key[0] == "thin"


def test_without_evidence_the_lowest_wins_and_it_is_undecided() -> None:
    found = judge([candidate("a", 1.0, time=2.0), candidate("b", 1.03, time=1.0)], se=0.1)
    assert found.chosen.key[0] == "a"
    assert not found.decided


def test_keeping_the_users_own_costs_nothing() -> None:
    pool = [candidate("a", 1.0, time=0.5), candidate(BASELINE, 1.005, time=1.0)]
    assert judge(pool).chosen.key[0] == BASELINE


def test_a_tie_that_costs_more_changes_nothing() -> None:
    pool = [candidate("quick", 1.0, time=1.0), candidate("slow", 1.001, time=2.0)]
    assert judge(pool).chosen.key[0] == "quick"


@given(st.permutations(range(5)))
def test_the_order_of_candidates_does_not_matter(order: list[int]) -> None:
    pool = [candidate(f"o{i}", 1 + 0.004 * i, time=5 - i) for i in range(5)]
    assert judge(pool).chosen.key == judge([pool[i] for i in order]).chosen.key


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        judge([])


def test_a_faster_optimizer_gains_at_equal_time() -> None:
    assert at_equal_time(1.0, -0.5, 1.0, 2.0) < 1.0 < at_equal_time(1.0, -0.5, 4.0, 2.0)


def test_unknown_costs_are_not_on_the_front() -> None:
    assert pareto({"a": (1.0, None), "b": (2.0, 2.0)}) == {"b"}


def test_the_users_own_is_left_only_for_what_is_probably_better() -> None:
    pool = [candidate("a", 0.99), candidate(BASELINE, 1.0)]
    assert judge(pool, se=0.1, tolerance=0.0, leave_at=0.75).chosen.key[0] == BASELINE
    assert judge(pool, se=0.1, tolerance=0.0, leave_at=0.5).chosen.key[0] == "a"
    assert judge(pool, se=0.005, tolerance=0.0, leave_at=0.75).chosen.key[0] == "a"
