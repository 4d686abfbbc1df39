from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.records import BASELINE
from autoopt.tuning.ranking import Noise
from autoopt.tuning.verdict import Candidate, at_equal_time, decide, pareto

SURE = Noise(0.01, 30)


def candidate(
    name: str, y: float, seeds: int = 4, fresh: bool = True, time: float = 1.0, memory: float = 1.0
) -> Candidate:
    return Candidate((name, ()), {s: y for s in range(seeds)}, fresh, {"time": time, "memory": memory})


def test_the_lowest_wins() -> None:
    found = decide(
        [candidate("a", 1.0), candidate("b", 0.5)], SURE, tolerance=0.02, tie_order=["time"], paired=True
    )
    assert found.chosen.key[0] == "b"
    assert found.decided
    assert found.ties == []


def test_a_shown_tie_goes_to_the_cheaper() -> None:
    pool = [candidate("slow", 1.0, time=2.0), candidate("quick", 1.005, time=1.0)]
    found = decide(pool, SURE, tolerance=0.02, tie_order=["time", "memory"], paired=True)
    assert found.chosen.key[0] == "quick"
    assert found.lowest.key[0] == "slow"
    assert found.ties == [("quick", ())]


def test_equal_times_leave_it_to_memory() -> None:
    pool = [candidate("fat", 1.0, memory=3.0), candidate("thin", 1.0, time=1.01, memory=1.0)]
    found = decide(pool, SURE, tolerance=0.02, tie_order=["time", "memory"], paired=True)
    assert found.chosen.key[0] == "thin"


def test_without_evidence_the_lowest_wins_and_it_is_undecided() -> None:
    pool = [candidate("a", 1.0, seeds=1, time=2.0), candidate("b", 1.03, seeds=1, time=1.0)]
    found = decide(pool, Noise(0.1, 5), tolerance=0.02, tie_order=["time"], paired=True)
    assert found.chosen.key[0] == "a"
    assert not found.decided


def test_keeping_the_users_own_costs_nothing() -> None:
    pool = [candidate("a", 1.0, time=0.5), candidate(BASELINE, 1.005, time=1.0)]
    assert decide(pool, SURE, tolerance=0.02, tie_order=["time"], paired=True).chosen.key[0] == BASELINE


def test_only_fresh_seeds_compete_where_there_are_any() -> None:
    pool = [candidate("lucky", 0.1, seeds=1, fresh=False), candidate("measured", 1.0)]
    assert decide(pool, SURE, tolerance=0.02, tie_order=["time"], paired=True).chosen.key[0] == "measured"


@given(st.permutations(range(5)))
def test_the_order_of_candidates_does_not_matter(order: list[int]) -> None:
    pool = [candidate(f"o{i}", 1 + 0.004 * i, time=5 - i) for i in range(5)]
    first = decide(pool, SURE, tolerance=0.02, tie_order=["time"], paired=True)
    again = decide([pool[i] for i in order], SURE, tolerance=0.02, tie_order=["time"], paired=True)
    assert first.chosen.key == again.chosen.key


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        decide([], SURE, tolerance=0.02, tie_order=[], paired=True)


def test_a_faster_optimizer_gains_at_equal_time() -> None:
    assert at_equal_time(1.0, -0.5, 1.0, 2.0) < 1.0 < at_equal_time(1.0, -0.5, 4.0, 2.0)


def test_unknown_costs_are_not_on_the_front() -> None:
    assert pareto({"a": (1.0, None), "b": (2.0, 2.0)}) == {"b"}


def test_the_users_own_is_left_only_for_what_is_probably_better() -> None:
    pool = [candidate("a", 0.99, seeds=1), candidate(BASELINE, 1.0, seeds=1)]
    doubtful = Noise(0.1, 5)
    told = {"tolerance": 0.0, "tie_order": ["time"], "paired": True}
    assert decide(pool, doubtful, **told, leave_at=0.75).chosen.key[0] == BASELINE
    assert decide(pool, doubtful, **told, leave_at=0.5).chosen.key[0] == "a"
    assert decide(pool, SURE, **told, leave_at=0.75).chosen.key[0] == "a"
