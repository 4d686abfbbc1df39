"""One row a trial, and one a point of a curve: the same columns for CSV and Parquet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from autoopt.export.exported import Exported, Trial

Kind = Literal["whole", "real", "text", "time"]
Columns = dict[str, Kind]
Row = dict[str, Any]

_FIRST: Columns = {
    "run": "text",
    "trial": "whole",
    "optimizer": "text",
    "stage": "text",
    "steps": "whole",
    "seed": "whole",
    "outcome": "text",
    "loss": "real",
    "metric": "real",
    "metric_name": "text",
}
_LAST: Columns = {
    "steps_done": "whole",
    "step_seconds": "real",
    "samples_per_second": "real",
    "state_bytes": "whole",
    "peak_bytes": "whole",
    "peak_source": "text",
    "reserved_bytes": "whole",
    "process_bytes": "whole",
    "worker": "whole",
    "began": "time",
    "ended": "time",
    "disturbed": "text",
    "repeated": "text",
    "message": "text",
}
_PARTS = ("build", "data", "train", "evaluate", "total")
CURVES: Columns = {
    "run": "text",
    "trial": "whole",
    "optimizer": "text",
    "steps": "whole",
    "step": "whole",
    "training_loss": "real",
}


def columns(run: Exported) -> Columns:
    """Names and kinds: what a trial is, its settings (`hyper_lr` first), what came of it."""
    names = sorted(
        {name for trial in run.trials for name in trial.hyper}, key=lambda name: (name != "lr", name)
    )
    hyper: Columns = {f"hyper_{name}": "real" for name in names}
    seconds: Columns = {f"seconds_{part}": "real" for part in _PARTS}
    return {**_FIRST, **hyper, **seconds, **_LAST}


def rows(run: Exported) -> list[Row]:
    """A row for each trial, by `columns`; what is not known is `None`."""
    names = columns(run)
    return [{name: known.get(name) for name in names} for trial in run.trials for known in [_row(run, trial)]]


def curves(run: Exported) -> list[Row]:
    """A row for each point of each training-loss curve, by `CURVES`."""
    return [
        dict(zip(CURVES, (run.name, t.spec.id, t.spec.optimizer, t.spec.steps, step, loss), strict=True))
        for t in run.trials
        for step, loss in t.curve
    ]


def _row(run: Exported, trial: Trial) -> Row:
    result = trial.result
    known = {} if result is None else {name: getattr(result, name, None) for name in _LAST}
    return {
        **known,
        **trial.facts,
        "run": run.name,
        "metric_name": run.report.settings.metric[0] if run.report.settings.metric else None,
        **{f"hyper_{name}": value for name, value in trial.hyper.items()},
        **{f"seconds_{part}": (result.seconds.get(part) if result else None) for part in _PARTS},
        "worker": trial.worker,
        "began": _moment(trial.began),
        "ended": _moment(trial.ended),
    }


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)
