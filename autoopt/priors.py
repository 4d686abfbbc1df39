"""Earlier runs as priors of a new one: read from their folders, kept in its events, told to its belief."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from autoopt.errors import RunError, UsageError
from autoopt.journal import FILE_NAME, has_run, replay
from autoopt.records import (
    Event,
    Outcome,
    PriorTaken,
    RunStarted,
    Settings,
    TrialFinished,
    TrialResult,
    WorkloadLoaded,
    WorkloadReport,
)
from autoopt.tuning.earlier import Earlier, earlier
from autoopt.tuning.planner import Planner
from autoopt.tuning.score import make

_SAME_LOSS = 1e-3
"""Relative difference of the losses before training up to which weights and data of one seed are taken to be the same."""
_LIKE = ("kind", "trainable", "parameters", "dtypes", "layers", "batch", "batches_per_epoch", "validation")
"""Of the reports of one workload."""


def take(folders: Iterable[Path]) -> list[PriorTaken]:
    """The earlier runs in some folders, each once.

    Raises:
        RunError: a folder that holds no run, a damaged one, or one without a finished trial.
    """
    return [read(folder) for folder in {os.path.realpath(f): f for f in folders}.values()]


def read(folder: Path) -> PriorTaken:
    """The earlier run in a folder; takes no lock, and changes nothing.

    Raises:
        RunError: as of `take`.
    """
    if not (folder / FILE_NAME).is_file():
        raise RunError(
            f"{folder} holds no run, so it cannot be a prior.",
            f"Give the folder of an earlier run, with {FILE_NAME} in it.",
        )
    try:
        events = replay(folder)
    except RunError as error:
        raise RunError(error.message, "Restore the file from a copy, or leave this prior out.") from error
    started = next((e for e in events if isinstance(e, RunStarted)), None)
    loaded = next((e for e in events if isinstance(e, WorkloadLoaded)), None)
    results = [_short(e.result) for e in events if isinstance(e, TrialFinished) and _tells(e.result)]
    if started is None or loaded is None or not any(r.outcome is Outcome.COMPLETED for r in results):
        raise RunError(f"The run in {folder} has no finished trial, so it tells nothing.", _way_out(folder))
    return PriorTaken(
        at=time.time(),
        folder=str(folder),
        asked=os.path.realpath(folder),
        seed=started.seed,
        arguments=started.arguments,
        report=loaded.report,
        results=results,
    )


def followed(taken: PriorTaken, out: Path, moved: Path | None) -> PriorTaken:
    """The same where the new run's folder took its place: then it is in the one that the earlier run was moved to."""
    if moved is None or taken.asked != os.path.realpath(out):
        return taken
    return taken.model_copy(update={"folder": str(Path(taken.folder).with_name(moved.name))})


def refuse_others(folders: Iterable[Path], past: Sequence[Event]) -> None:
    """A resumed run keeps the priors that it began with.

    Raises:
        RunError: one is named that it did not begin with.
    """
    kept = [e for e in past if isinstance(e, PriorTaken)]
    known = {path for e in kept for path in (e.asked, os.path.realpath(e.folder))}
    for folder in folders:
        if os.path.realpath(folder) not in known:
            began = f"with {', '.join(e.folder for e in kept)}" if kept else "without any"
            raise RunError(
                f"{folder} cannot become a prior of a run that has begun {began}.",
                "Leave it out: what the run began with is kept in it. Or start a new run without --resume.",
            )


def tell(
    taken: Iterable[PriorTaken], report: WorkloadReport, seed: int, arguments: list[str]
) -> list[Earlier]:
    """What earlier runs say to the one whose workload is loaded.

    Raises:
        UsageError: one compared by another metric.
    """
    told = []
    for run in taken:
        theirs, ours = run.report.settings.metric, report.settings.metric
        if theirs != ours:
            raise UsageError(
                f"The run in {run.folder} compared {_by(theirs)}, and this one compares {_by(ours)}.",
                "Give both files the same METRIC, or leave this prior out.",
            )
        same = same_workload(run, report, seed, arguments)
        base = run.report.baseline
        own = (base.registry_name, dict(base.hyper)) if base.registry_name and "lr" in base.hyper else None
        told.append(
            earlier(
                run.results,
                make(
                    report.initial_loss if same else run.report.initial_loss,
                    ours,
                    run.results,
                    report.settings.metric_best,
                ),
                run.report.settings.steps,
                own=own,
                parameters=run.report.trainable,
                same=same,
            )
        )
    return told


def same_workload(run: PriorTaken, report: WorkloadReport, seed: int, arguments: list[str]) -> bool:
    """Whether model, data and settings are the same, as far as can be seen; the length of the real run may differ.

    Where seeds are the same, so is the loss before training. That is all that tells data of one shape apart, so objects
    that came from no file are the same only where it could be compared.
    """
    one, other = run.report, report
    if any(getattr(one, name) != getattr(other, name) for name in _LIKE) or run.arguments != arguments:
        return False
    if _settings(one.settings) != _settings(other.settings):
        return False
    # The files may lie elsewhere by now: their content counts.
    if sorted(one.modules.values()) != sorted(other.modules.values()):
        return False
    if run.seed == seed:
        return abs(one.initial_loss - other.initial_loss) <= _SAME_LOSS * abs(one.initial_loss)
    return bool(one.modules)


def summary(taken: Sequence[PriorTaken], told: Sequence[Earlier], planner: Planner) -> list[dict[str, Any]]:
    """For the provenance: each earlier run, its trials that informed the belief, and how alike it was found to be."""
    counts, alike = planner.field.remembered(), planner.view.posterior.alike
    return [
        {
            "run": run.folder,
            "trials": count,
            "same_workload": one.same,
            "correlation": likeness.correlation,
        }
        for run, one, count, likeness in zip(taken, told, counts, alike, strict=True)
    ]


def _tells(result: TrialResult) -> bool:
    """Whether a trial ended, and says something of its settings."""
    return result.outcome is Outcome.DIVERGED or (
        result.outcome is Outcome.COMPLETED and result.loss is not None
    )


def _short(result: TrialResult) -> TrialResult:
    return result.model_copy(update={"curve": [], "digests": []})


def _settings(settings: Settings) -> Settings:
    # How the accumulation was asked for is no difference where it is the same.
    return settings.model_copy(update={"steps": 1, "origins": {}, "global_batch": None, "ranks": 1})


def _by(metric: tuple[str, str] | None) -> str:
    return "by the validation loss" if metric is None else f"by {metric[0]} ({metric[1]})"


def _way_out(folder: Path) -> str:
    """An earlier run of that folder that moved aside, the last one first."""
    beside = sorted(
        (p for p in folder.parent.glob(f"{folder.name}.*") if p.suffix[1:].isdigit() and has_run(p)),
        key=lambda p: -int(p.suffix[1:]),
    )
    if beside:
        return f"An earlier run of that folder is in {beside[0]}: give that, or leave this prior out."
    return "Give a run in which a trial was completed, or leave this prior out."
