"""What became of a trial in the processes that trained one model together, as one result. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from autoopt.records import Outcome, RankFigures, TrialResult
from autoopt.trials.protocol import Failed, Finished

_GOOD = (Outcome.COMPLETED, Outcome.DIVERGED, Outcome.CANCELLED)


def one_result(ended: Sequence[tuple[float, TrialResult]]) -> TrialResult:
    """The result of a trial whose ranks had these, by rank, each with the time when it had it.

    Loss and metric are rank 0's (they are means over all). Times are those of the slowest rank, whom the others wait for,
    and memory that of the largest. A failure in one rank is the trial's, in its own words; of several the first, as the
    others are mostly what it did to them.
    """
    results = [result for _, result in ended]
    failures = [(at, rank, r) for rank, (at, r) in enumerate(ended) if r.outcome not in _GOOD]
    if failures:
        _, rank, result = min(failures, key=lambda f: f[:2])
        alike = len(failures) == len(results) and len({r.message for _, _, r in failures}) == 1
        message = result.message if alike else f"rank {rank}: {result.message}"
        return result.model_copy(update={"message": message})
    first = results[0]
    ranks = RankFigures(
        step_seconds=[result.step_seconds for result in results],
        peak_bytes=[result.peak_bytes for result in results],
        state_bytes=[result.state_bytes for result in results],
    )
    slow = results[ranks.slowest or 0]
    large = results[ranks.largest or 0]
    return first.model_copy(
        update={
            "step_seconds": slow.step_seconds,
            "speed": slow.speed,
            "samples_per_second": slow.samples_per_second,
            "state_bytes": max((b for b in ranks.state_bytes if b is not None), default=None),
            "peak_bytes": large.peak_bytes,
            "peak_source": large.peak_source,
            "reserved_bytes": max((r.reserved_bytes for r in results if r.reserved_bytes), default=None),
            "process_bytes": max((r.process_bytes for r in results if r.process_bytes), default=None),
            "ranks": ranks,
        }
    )


def one_failure(failures: Sequence[tuple[float, int, Failed]], size: int) -> Failed:
    """Why loading failed: in the words of the rank that failed first, with its number unless all said the same.

    Args:
        failures: when, which rank, what it said.
        size: number of ranks.
    """
    _, rank, first = min(failures, key=lambda f: f[:2])
    alike = len(failures) == size and len({failed.message for _, _, failed in failures}) == 1
    return first if alike else first.model_copy(update={"message": f"rank {rank}: {first.message}"})


def failed_of(said: Failed | Finished, prefix: str) -> Failed | Finished:
    """What a rank said before it gave up the others, told as its own; the process is about to end."""
    if isinstance(said, Failed):
        return said.model_copy(update={"message": prefix + said.message})
    result = said.result.model_copy(update={"message": prefix + said.result.message})
    return said.model_copy(update={"result": result, "leaves": True})
