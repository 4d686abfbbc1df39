"""`autoopt memory`: what a training step needs with each optimizer, without training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from autoopt.memory.answer import MemoryAnswer, MemoryRequest, OptimizerMemory


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("memory")(memory)


def memory(
    target: str = typer.Argument(..., help="Your model.py, or package.module:function."),
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="After `--`: handed to that function, or to your file as sys.argv."),
    ] = None,
    gpu: str = typer.Option(
        None, metavar="GPU", help="A GPU that need not be here: h100, a100-80gb, rtx4090, 24GB ..."
    ),
    batch_size: int = typer.Option(
        None, min=1, metavar="N", help="Samples in a batch instead of your loader's."
    ),
    precision: str = typer.Option(None, metavar="KIND", help="fp32, bf16 or fp16."),
    accumulate: int = typer.Option(None, min=1, metavar="N", help="Batches to a step."),
    global_batch: int = typer.Option(
        None, min=1, metavar="N", help="Samples to a step over all processes, instead of --accumulate."
    ),
    optimizers: str = typer.Option(
        None, metavar="NAMES", help="Names, separated by commas; all of the table by default."
    ),
    measure: bool = typer.Option(
        False, "--measure", help="Take real steps on this machine's device too, which allocates the model."
    ),
    timeout: float = typer.Option(
        300.0, min=1, metavar="SECONDS", help="Seconds after which the prediction is ended."
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON object."),
) -> int:
    """Predict the memory of a step and the batch that fits.

    For each optimizer; without training, and without allocating the model.
    """
    import json

    from autoopt.errors import UsageError
    from autoopt.hardware import devices
    from autoopt.hardware.choose import worker_environment
    from autoopt.trials.ask_memory import ask

    if measure and (gpu is not None or batch_size is not None):
        raise UsageError(
            "--measure takes your own batches on this machine's device.", "Leave --gpu and --batch-size out."
        )
    if batch_size is not None and global_batch is not None:
        raise UsageError("--global-batch is divided by your loader's batches.", "Leave --batch-size out.")
    if accumulate is not None and global_batch is not None:
        raise UsageError("--accumulate and --global-batch say the same thing twice.", "Give one of them.")
    request, device = _request(target, arguments or [], gpu, batch_size, precision, accumulate, optimizers)
    request = request.model_copy(update={"global_batch": global_batch})
    visible = None
    if measure:
        chosen = devices("auto")[:1]
        request = request.model_copy(update={"measure_on": chosen[0].worker_name})
        visible = worker_environment(chosen)
    with _progress() as progress:
        answer = ask(request, timeout=timeout, progress=progress, visible=visible)
    answer = answer.model_copy(update={"device": device})
    if as_json:
        print(json.dumps(answer.model_dump(mode="json"), ensure_ascii=False))
    else:
        _show(answer)
    return 0


def _request(
    target: str,
    arguments: list[str],
    gpu: str | None,
    batch_size: int | None,
    precision: str | None,
    accumulate: int | None,
    optimizers: str | None,
) -> tuple[MemoryRequest, str]:
    """The question, and the device that it is about in words."""
    from autoopt.errors import UsageError
    from autoopt.hardware import devices
    from autoopt.hardware.cards import CONTEXT, capacity
    from autoopt.hardware.cpu import total_memory
    from autoopt.memory.answer import MemoryRequest
    from autoopt.optim import registry

    if precision not in (None, "fp32", "bf16", "fp16"):
        raise UsageError(f"There is no precision {precision!r}.", "Use fp32, bf16 or fp16.")
    names = (
        [registry.get(name.strip()).name for name in optimizers.split(",")]
        if optimizers
        else registry.names()
    )
    if gpu is not None:
        kind, size, context, words = "cuda", capacity(gpu), CONTEXT, f"a GPU ({gpu})"
    else:
        device = devices("auto")[0]
        if device.gpu is not None:
            kind, size, context = "cuda", device.gpu.memory_total, CONTEXT
            words = f"{device.name} ({device.gpu.title})"
        else:
            kind, size, context, words = "cpu", total_memory(), 0, "this machine's CPU"
    request = MemoryRequest.model_validate(
        {
            "target": target,
            "arguments": arguments,
            "optimizers": names,
            "kind": kind,
            "capacity_bytes": size,
            "context_bytes": context,
            "batch_size": batch_size,
            "accumulate": accumulate,
            "precision": precision,
        }
    )
    return request, words


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is being done, on stderr while it is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield lambda text: status.update(f"{text} ...")


def _show(answer: MemoryAnswer) -> None:
    from autoopt.cli.tables import show

    size = answer.capacity_bytes
    room = f", {_bytes(size)}" if size else ""
    less = f" of which the driver takes about {_bytes(answer.context_bytes)}" if answer.context_bytes else ""
    print(
        f"{answer.target}: {answer.parameters:,} parameters, {answer.trainable:,} trainable; {answer.precision}"
    )
    print(f"Device: {answer.device}{room}{less}")
    print(f"Batch:  {answer.batch}" + (f"; {answer.samples} samples counted" if answer.samples else ""))
    if answer.accumulate > 1:
        print(f"        {answer.accumulate} batches to a step")
    print()
    show(
        (
            "optimizer",
            "weights",
            "gradients",
            "state",
            "activations",
            "in its step",
            "peak",
            "fits",
            "largest batch",
            "from",
        ),
        [_cells(row, answer) for row in sorted(answer.optimizers, key=_order)],
    )
    for row in answer.optimizers:
        if row.note:
            print(f"\n{row.optimizer}: {row.note}")
    for note in answer.notes:
        print(f"\nnote: {note}")


def _order(row: OptimizerMemory) -> tuple[bool, int]:
    return row.peak_bytes is None, row.peak_bytes or 0


def _cells(row: OptimizerMemory, answer: MemoryAnswer) -> tuple[str, ...]:
    fits = "?" if row.fits is None else f"yes, {_bytes(row.margin_bytes)} left"
    if row.fits is False:
        fits = f"no, {_bytes(-(row.margin_bytes or 0))} too much"
    return (
        row.optimizer,
        *(
            _bytes(value)
            for value in (
                row.parameter_bytes,
                row.gradient_bytes,
                row.state_bytes,
                row.activation_bytes,
                row.temporary_bytes,
                row.peak_bytes,
            )
        ),
        fits,
        _largest(row, answer),
        row.source,
    )


def _largest(row: OptimizerMemory, answer: MemoryAnswer) -> str:
    """The largest batch, and how much that is beside AdamW's: a smaller state buys a larger batch."""
    if row.largest_batch is None:
        return "?"
    adamw = next((r.largest_batch for r in answer.optimizers if r.optimizer == "adamw"), None)
    if not adamw or row.optimizer == "adamw":
        return str(row.largest_batch)
    change = row.largest_batch / adamw - 1
    return f"{row.largest_batch} ({change:+.0%})" if abs(change) >= 0.005 else str(row.largest_batch)


def _bytes(value: int | None) -> str:
    from autoopt.units import show_bytes

    return "?" if value is None else show_bytes(value)
