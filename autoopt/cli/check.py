"""`autoopt check`: loads the user's file, runs a step on each device and says what will happen in a trial."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from autoopt.records import WorkloadReport

_WHO = (
    ("seeds torch, numpy and random", "autoopt, per seed and epoch"),
    ("builds the model", "your build_model(), once; autoopt puts the initial weights back"),
    ("draws batches", "your train_dataloader()"),
    ("moves the batch and the model to the device", "autoopt"),
    ("sets train and eval mode", "autoopt"),
    ("enters autocast, scales the loss", "autoopt (PRECISION)"),
    ("computes the loss", "your loss()"),
    ("calls backward, accumulates", "autoopt (ACCUMULATE)"),
    ("clips the gradient", "autoopt (CLIP)"),
    ("sets the learning rate, steps, clears gradients", "autoopt (SCHEDULE, WARMUP)"),
    ("runs after each step", "your after_step(), if any"),
    ("evaluates", "autoopt calls your loss() or evaluate() on the validation batches"),
)


_COLUMNS = ("device", "first loss", "step", "waiting for data", "evaluation of a batch")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("check")(check)


def check(
    target: str = typer.Argument(..., help="Your model.py, loop.py, or package.module:function."),
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="After `--`: handed to that function, or to your file as sys.argv."),
    ] = None,
    device: str = typer.Option("all", metavar="NAMES", help="all, auto, cpu, or cuda:0,cuda:1."),
    precision: str = typer.Option(None, metavar="KIND", help="fp32, bf16 or fp16."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object."),
) -> None:
    """Load a model file, run a step, show what a trial will do.

    On each device, and with what is likely to spoil a comparison. A loop of your own is run twice, briefly.
    """
    import json

    from autoopt.errors import UsageError

    if precision not in (None, "fp32", "bf16", "fp16"):
        raise UsageError(f"There is no precision {precision!r}.", "Use fp32, bf16 or fp16.")
    reports = []
    for name in _devices(device):
        with _prints_on_stderr():  # what the user's code prints must not mix with the result
            reports.append(_report(target, arguments or [], precision, name))
    if as_json:
        print(json.dumps({"devices": [report.model_dump(mode="json") for report in reports]}))
    else:
        _show(reports)


@contextmanager
def _prints_on_stderr() -> Iterator[None]:
    """Turns stdout into stderr, for libraries and child processes that write to the descriptor too."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _devices(request: str) -> list[str]:
    if request != "all":
        from autoopt.hardware import devices

        return [device.name for device in devices(request)]
    import torch

    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


def _report(target: str, arguments: Sequence[str], precision: str | None, device: str) -> WorkloadReport:
    from autoopt.records import Flags
    from autoopt.workload.entry import load_any

    flags = Flags.model_validate({"precision": precision})
    workload = load_any(target, arguments, flags, device)
    try:
        # Of a loop it takes two runs to see whether a seed decides all that happens.
        return workload.report(quick=workload.kind != "own loop")
    finally:
        workload.close()


def _show(reports: Sequence[WorkloadReport]) -> None:
    from autoopt.cli import checked_loop
    from autoopt.cli.tables import show
    from autoopt.optim import registry

    first = reports[0]
    own_loop = first.kind == "own loop"
    for label, text in _facts(first):
        if text:
            print(f"{label + ':':12} {text}")
    print("\nDevices")
    if own_loop:
        show(checked_loop.COLUMNS, [checked_loop.row(report, _times(report)) for report in reports])
    else:
        show(_COLUMNS, [_row(report) for report in reports])
    print("\nWho does what in a trial")
    show(("what", "who"), checked_loop.WHO if own_loop else _WHO)
    print("\nOptimizers")
    show(
        ("optimizer", "usable here"),
        [
            (name, f"no: {first.unavailable[name]}" if name in first.unavailable else "yes")
            for name in registry.names()
        ],
    )
    warnings = list(dict.fromkeys(text for report in reports for text in report.warnings))
    for text in warnings:
        print(f"\nwarning: {text}")
    print(f"\n`autoopt profile {first.target}` chooses the optimizer.")


def _facts(report: WorkloadReport) -> list[tuple[str, str]]:
    from autoopt.cli import checked_loop

    settings, baseline = report.settings, report.baseline
    dtypes = ", ".join(f"{count:,} {name}" for name, count in report.dtypes.items())
    layers = ", ".join(
        f"{count} {name}" for name, count in sorted(report.layers.items(), key=lambda kv: -kv[1])
    )
    origin = settings.origins.get
    chosen = [
        f"{name} {' '.join(value) if isinstance(value, tuple) else value} ({origin(name)})"
        for name, value in settings.model_dump(exclude={"origins"}).items()
        if value is not None and name in settings.origins
    ]
    yours = "yours" if baseline.source == "configure_optimizers" else "no configure_optimizers(): the default"
    hyper = ", ".join(f"{key} {value:g}" for key, value in baseline.hyper.items())
    schedule = f", with {baseline.schedule}" if baseline.schedule else ""
    return [
        ("Target", f"{report.target} ({report.kind})"),
        ("Parameters", f"{report.parameters:,}, of which {report.trainable:,} trainable; {dtypes}"),
        ("Layers", layers),
        ("Groups", "; ".join(f"{g.label}: {g.parameters:,} in {g.tensors} tensors" for g in report.groups)),
        ("Baseline", f"{baseline.optimizer} ({yours}): {hyper}{schedule}"),
        ("Settings", "; ".join(chosen)),
        *(checked_loop.facts(report) if report.kind == "own loop" else _data_facts(report)),
    ]


def _data_facts(report: WorkloadReport) -> list[tuple[str, str]]:
    """Of a file with a model for our loop."""
    validation = {
        "own": "your val_dataloader()",
        "held_out": "a share of the training samples, held out by index",
        "prequential": "none: each batch is scored before it is trained on",
    }[report.validation]
    count = f", {report.validation_batches} batches" if report.validation_batches is not None else ""
    epoch = f", {report.batches_per_epoch} an epoch" if report.batches_per_epoch is not None else ""
    return [
        ("Batch", f"{report.batch}{epoch}"),
        ("Validation", f"{validation}{count}; loss before training {report.initial_loss:.6g}"),
        ("Data", "the same at each reading" if report.reproducible_data else "not reproducible"),
        (
            "Restore",
            "initial weights in place" if report.restore == "in_place" else "the model is built anew",
        ),
    ]


def _row(report: WorkloadReport) -> tuple[str, ...]:
    step, evaluation = _times(report)
    return report.device, f"{report.first_loss:.6g}", step, f"{_waiting(report):.0%} of a step", evaluation


def _times(report: WorkloadReport) -> tuple[str, str]:
    return _seconds(report.step_seconds), _seconds(report.eval_batch_seconds)


def _waiting(report: WorkloadReport) -> float:
    whole = report.step_seconds + report.data_seconds
    return report.data_seconds / whole if whole > 0 else 0.0


def _seconds(value: float) -> str:
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"
