"""What `autoopt check` says of a training loop of the user's own: who does what, and what two runs of it showed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoopt.records import WorkloadReport

WHO = (
    ("seeds torch, numpy and random", "autoopt, before each run()"),
    ("builds model and data, moves them to the device", "your run()"),
    ("makes the optimizer", "autoopt, where run() calls make_optimizer(...)"),
    ("computes losses, calls backward, clips, accumulates, steps", "your run()"),
    ("sets the learning rate", "autoopt, at each report(loss) (SCHEDULE, WARMUP)"),
    ("ends a trial that diverges", "autoopt, at a report(loss)"),
    ("evaluates", "your run(): what it returns is compared (METRIC)"),
)
COLUMNS = ("device", "first loss", "between two reports", "the rest of a run")


def facts(report: WorkloadReport) -> list[tuple[str, str]]:
    """What stands above the tables, in the place of what a model file has there."""
    name, best = report.settings.metric or ("loss", "min")
    before = f"; {report.initial_loss:.6g} before training" if report.settings.metric is None else ""
    return [
        ("Batch", report.batch),
        ("Compared", f"{name} ({best}), which run() returns{before}"),
        (
            "Data",
            "two runs with one seed reported the same losses"
            if report.reproducible_data
            else "two runs with one seed reported other losses",
        ),
        ("Pairing", "yours (PAIRED)" if report.pairing == "yours" else "none"),
    ]


def row(report: WorkloadReport, seconds: Sequence[str]) -> tuple[str, ...]:
    """Of the table of devices; `seconds` are those of a step and of the rest, in words."""
    return (report.device, f"{report.first_loss:.6g}", *seconds)
