"""Results of ranks as one."""

from __future__ import annotations

import pytest

from autoopt.records import Outcome, RankFigures, TrialResult
from autoopt.trials.merge import failed_of, one_failure, one_result
from autoopt.trials.protocol import Failed, Finished
from autoopt.trials.testing import spec


def ended(outcome: Outcome = Outcome.COMPLETED, message: str = "", **more: object) -> TrialResult:
    return TrialResult(spec=spec(1, "adamw"), outcome=outcome, message=message, **more)  # type: ignore[arg-type]


def test_times_are_the_slowest_s_and_memory_is_the_largest_s() -> None:
    first = ended(loss=0.5, step_seconds=0.1, samples_per_second=80.0, peak_bytes=300, state_bytes=40)
    second = ended(loss=0.5, step_seconds=0.2, samples_per_second=40.0, peak_bytes=200, state_bytes=60)
    found = one_result([(1.0, first), (1.1, second)])
    assert (found.step_seconds, found.samples_per_second) == (0.2, 40.0)
    assert (found.peak_bytes, found.state_bytes, found.loss) == (300, 60, 0.5)
    assert found.ranks is not None
    assert (found.ranks.slowest, found.ranks.largest, found.ranks.spread) == (1, 0, 2.0)


def test_nothing_measured_is_nothing_told() -> None:
    found = one_result([(0.0, ended(Outcome.DIVERGED)), (0.0, ended(Outcome.DIVERGED))])
    assert found.ranks == RankFigures(
        step_seconds=[None, None], peak_bytes=[None, None], state_bytes=[None, None]
    )
    assert (found.ranks.slowest, found.ranks.largest, found.ranks.spread) == (None, None, None)
    assert (found.step_seconds, found.peak_bytes) == (None, None)


@pytest.mark.parametrize(
    ("results", "outcome", "message"),
    [
        # Of two failures the first is the cause: the other rank only noticed that its peer was gone.
        (
            [
                (2.0, ended(Outcome.ERROR, "connection closed")),
                (1.0, ended(Outcome.OUT_OF_MEMORY, "no room")),
            ],
            Outcome.OUT_OF_MEMORY,
            "rank 1: no room",
        ),
        ([(1.0, ended()), (2.0, ended(Outcome.ERROR, "a"))], Outcome.ERROR, "rank 1: a"),
        # What all say alike is nobody's own.
        ([(1.0, ended(Outcome.ERROR, "a")), (2.0, ended(Outcome.ERROR, "a"))], Outcome.ERROR, "a"),
    ],
)
def test_a_failure_in_one_rank_is_the_trial_s(
    results: list[tuple[float, TrialResult]], outcome: Outcome, message: str
) -> None:
    found = one_result(results)
    assert (found.outcome, found.message, found.ranks) == (outcome, message, None)


def test_why_loading_failed() -> None:
    a, b = Failed(error="UserCodeError", message="a"), Failed(error="WorkloadError", message="b")
    assert one_failure([(2.0, 0, a), (1.0, 1, b)], 2).message == "rank 1: b"
    assert one_failure([(2.0, 0, a), (1.0, 1, a)], 2).message == "a"
    assert one_failure([(2.0, 0, a)], 2).message == "rank 0: a"


def test_who_gave_up_the_others_says_that_the_worker_ends() -> None:
    told = failed_of(Finished(result=ended(Outcome.ERROR, "a")), "rank 1: ")
    assert isinstance(told, Finished)
    assert (told.result.message, told.leaves) == ("rank 1: a", True)
