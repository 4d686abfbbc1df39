"""What becomes of a job that lost its cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoopt.daemon.jobs import Job, State, Submission
from autoopt.daemon.outcome import MAX_LOSSES, judge

GONE = {"kind": "ClusterGone", "message": "It has ended.", "hint": "", "exit_code": 6}


def ended(**changes: Any) -> tuple[State, dict[str, Any], bool]:
    job = Job(id="a", submission=Submission(target="m.py"), created=1.0, folder="f", state=State.RUNNING)
    told = {"how": "ended", "code": 6, "signal": None, "error": GONE}
    verdict = judge(job.model_copy(update=changes), told, Path("/nowhere"))
    return verdict.state, verdict.changes, verdict.no_cluster


def test_it_waits_for_the_cluster_and_that_is_no_death() -> None:
    state, changes, no_cluster = ended(deaths=1)
    assert (state, changes["losses"], no_cluster) == (State.QUEUED, 1, True)
    assert "waits for the cluster" in changes["reason"]
    assert "deaths" not in changes


def test_a_job_that_loses_it_again_and_again_is_set_aside() -> None:
    state, changes, _ = ended(losses=MAX_LOSSES - 1)
    assert (state, changes["error"]["kind"]) == (State.SET_ASIDE, "ClusterGone")
    assert f"{MAX_LOSSES} times" in changes["reason"]


def test_one_that_is_being_cancelled_is_cancelled() -> None:
    assert ended(state=State.CANCELLING)[0] is State.CANCELLED
