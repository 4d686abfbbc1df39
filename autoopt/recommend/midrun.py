"""Words for a run that is half done: to go on as it is, or to change the optimizer now."""

from __future__ import annotations

from autoopt.records import BASELINE, Choice, WorkloadReport


def keep(report: WorkloadReport, what: str, value: str) -> str:
    """The sentence for a run that is left alone."""
    saved = report.checkpoint
    assert saved is not None
    state = "with its state" if saved.optimizer else "from a fresh state"
    return (
        f"keep what you have: go on from step {saved.step} with your {report.baseline.optimizer} {state}: {what} {value}, "
        "and nothing that was tried is shown to be better"
    )


def switch(report: WorkloadReport, same: bool) -> str:
    """The begin of the sentence for a run that changes.

    Args:
        same: the new optimizer is of the user's own class.
    """
    saved = report.checkpoint
    assert saved is not None
    how = f"start your {report.baseline.optimizer} anew" if same else "switch"
    return f"{how} at step {saved.step}, against going on with yours"


def way(report: WorkloadReport, choice: Choice) -> str:
    """What a change takes beside the optimizer; empty where there is none."""
    saved = report.checkpoint
    if saved is None or choice.optimizer == BASELINE:
        return ""
    warm = f", with {choice.warmup_steps} steps of warm-up for its fresh state" if choice.warmup_steps else ""
    return f" It begins at step {saved.step} of {saved.whole}{warm}, and decays over the {choice.steps} that remain."
