"""Makes the Lightning Trainers that run a module here: the user's, with what belongs to a whole run taken out.

Lightning is never imported from here: whoever has a LightningModule has imported it, as `lightning.pytorch` or as
`pytorch_lightning`, and the Trainer comes from the same package.
"""

from __future__ import annotations

import copy
import logging
import math
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch

from autoopt.errors import WorkloadError

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
_PRECISIONS = {
    "32-true": "fp32",
    "32": "fp32",
    "bf16-mixed": "bf16",
    "bf16": "bf16",
    "16-mixed": "fp16",
    "16": "fp16",
}
_FLAGS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_SETTINGS = ("max_steps", "max_epochs", "precision", "gradient_clip_val", "accumulate_grad_batches")
"""Of a Trainer: these become STEPS, PRECISION, CLIP and ACCUMULATE."""
_PASSED = ("gradient_clip_algorithm", "deterministic", "benchmark", "detect_anomaly", "inference_mode")
_LEFT_OUT = ("Checkpoint", "EarlyStopping", "ProgressBar", "ModelSummary", "LearningRateMonitor", "Timer")
_LEFT_OUT_TOO = ("LearningRateFinder", "BatchSizeFinder", "DeviceStatsMonitor", "AutoOptimizer")
"""Callbacks that write files, need a logger, or end or change a run that has to go through its whole schedule."""
_LOGGERS = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


@dataclass(frozen=True)
class Given:
    """What the user says of the Trainer: arguments to pass on, callbacks, and the file's constants it stands for."""

    arguments: dict[str, Any] = field(default_factory=dict)
    callbacks: tuple[Any, ...] = ()
    constants: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    limit_train_batches: int | float = 1.0
    notes: tuple[str, ...] = ()

    def length(self, batches: int | None) -> int | None:
        """Batches of an epoch of the Trainer, of a loader that has `batches`."""
        limit = self.limit_train_batches
        if batches is None:
            return limit if isinstance(limit, int) else None
        return max(1, min(batches, limit) if isinstance(limit, int) else int(batches * limit))

    def resolved(self, constants: Mapping[str, Any], batches: int | None) -> Mapping[str, Any]:
        """The constants, with the Trainer's `max_epochs` as STEPS where nothing else says how long the run is."""
        per_epoch = self.length(batches)
        if self.epochs is None or per_epoch is None or "STEPS" in constants:
            return constants
        return {**constants, "STEPS": self.epochs * math.ceil(per_epoch / constants.get("ACCUMULATE", 1))}


def package_of(module: Any) -> Any:
    """The Lightning package whose LightningModule this is (an instance or a class)."""
    kind = module if isinstance(module, type) else type(module)
    for name in PACKAGES:
        package = sys.modules.get(name)
        if package is not None and issubclass(kind, package.LightningModule):
            return package
    raise TypeError(f"{kind.__name__} is no LightningModule")


def read(trainer: Any, label: str) -> Given:
    """What is to be taken from the user's Trainer, or from a dict of its arguments; the Trainer itself never runs.

    Raises:
        WorkloadError: it is neither, or it has an argument that no trial can honour.
    """
    if trainer is None:
        return Given()
    if isinstance(trainer, Mapping):
        arguments = dict(trainer)
        callbacks = arguments.pop("callbacks", None) or ()
        callbacks = callbacks if isinstance(callbacks, (list, tuple)) else (callbacks,)
    elif all(hasattr(trainer, name) for name in ("fit", "callbacks", *_SETTINGS)):
        arguments = {name: getattr(trainer, name) for name in _SETTINGS}
        arguments["gradient_clip_algorithm"] = trainer.gradient_clip_algorithm
        arguments["limit_train_batches"] = trainer.limit_train_batches
        callbacks = tuple(trainer.callbacks)
    else:
        raise WorkloadError(
            f"{label}: the Trainer is a {type(trainer).__name__}.",
            "Give a lightning.Trainer, or a dict of its arguments.",
        )
    kept, dropped = part(callbacks)
    notes = []
    if dropped:
        notes.append(without(dropped))
    constants: dict[str, Any] = {}
    if arguments.get("max_steps") not in (None, -1):
        constants["STEPS"] = arguments["max_steps"]
    if arguments.get("gradient_clip_val") is not None:
        constants["CLIP"] = arguments["gradient_clip_val"] or None
    if arguments.get("accumulate_grad_batches") is not None:
        constants["ACCUMULATE"] = arguments["accumulate_grad_batches"]
    if arguments.get("precision") is not None:
        constants["PRECISION"] = _precision(arguments["precision"], label)
    epochs = arguments.get("max_epochs")
    ours = [name for name in arguments if name not in (*_SETTINGS, *_PASSED, "limit_train_batches")]
    if ours:
        notes.append(f"These arguments of the Trainer have no part in trials: {', '.join(sorted(ours))}.")
    passed = {name: arguments[name] for name in _PASSED if arguments.get(name) is not None}
    limit = arguments.get("limit_train_batches")
    return Given(
        passed,
        tuple(kept),
        constants,
        None if epochs in (None, -1) else epochs,
        1.0 if limit is None else limit,
        tuple(notes),
    )


def part(callbacks: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """(those that run in trials, names of the others)."""
    kept, dropped = [], []
    for callback in callbacks:
        names = {kind.__name__ for kind in type(callback).__mro__}
        if names & {*_LEFT_OUT, *_LEFT_OUT_TOO}:
            dropped.append(type(callback).__name__)
        else:
            kept.append(callback)
    quiet = ("ModelSummary", "TQDMProgressBar", "RichProgressBar", "ModelCheckpoint", "AutoOptimizer")
    return kept, [name for name in dropped if name not in quiet]


def without(names: Sequence[str]) -> str:
    """The note on callbacks that were left out."""
    return f"These callbacks have no part in trials: {', '.join(names)}."


def _precision(flag: Any, label: str) -> str:
    known = _PRECISIONS.get(str(flag))
    if known is None:
        raise WorkloadError(
            f"{label}: the Trainer's precision is {flag!r}, which trials cannot have.",
            "Use 32-true, bf16-mixed or 16-mixed.",
        )
    return known


def make(
    package: Any,
    device: torch.device,
    given: Given,
    *,
    precision: str,
    callbacks: Sequence[Any],
    kind: type | None = None,
    **arguments: Any,
) -> Any:
    """A Trainer on `device` that writes nothing and leaves the module where it is.

    Args:
        package: `lightning.pytorch` or `pytorch_lightning`.
        given: the user's arguments.
        precision: fp32, bf16 or fp16.
        kind: the class; the package's Trainer unless given.
        arguments: more of the Trainer's.

    Raises:
        WorkloadError: Lightning does not take the arguments.
    """
    accelerator = device.type if device.type in ("cuda", "mps") else "cpu"
    devices = [device.index or 0] if accelerator == "cuda" else 1
    whole = {**given.arguments, **arguments}
    try:
        with quiet():
            return (kind or package.Trainer)(
                accelerator=accelerator,
                devices=devices,
                strategy=_staying(package)(device=device),
                plugins=[_environment(package)],
                precision=_FLAGS[precision],
                callbacks=list(callbacks),
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                **whole,
            )
    except Exception as error:
        raise WorkloadError(
            f"Lightning refuses the Trainer's arguments: {error}", "Correct the Trainer that you give."
        ) from error


def as_callback(package: Any, hooks: Any) -> Any:
    """A Callback of the package with the methods, and the very attributes, of `hooks`."""
    kind = type(type(hooks).__name__, (type(hooks), package.Callback), {})
    found: Any = object.__new__(kind)
    found.__dict__ = hooks.__dict__
    return found


def copies(given: Given, module: Any) -> list[Any]:
    """The user's callbacks, copied: each training begins with fresh ones.

    Raises:
        WorkloadError: one cannot be copied.
    """
    found = []
    for callback in given.callbacks:
        try:
            found.append(copy.deepcopy(callback, {id(module): module}))
        except Exception as error:
            raise WorkloadError(
                f"The callback {type(callback).__name__} cannot be copied ({error}), and each trial needs a fresh one.",
                "Make what it holds when it is first needed, or leave it out of the trials' Trainer.",
            ) from error
    return found


def _staying(package: Any) -> type:
    """The strategy of one device, without the move to the CPU at the end: the module's tensors stay where they are."""

    class OneDevice(package.strategies.SingleDeviceStrategy):  # type: ignore[misc]
        def teardown(self) -> None:
            self.precision_plugin.teardown()
            self.accelerator.teardown()

    return OneDevice


def _environment(package: Any) -> Any:
    """Of one process, also inside a SLURM or torchrun job."""
    fabric = "lightning.fabric" if package.__name__ == "lightning.pytorch" else "lightning_fabric"
    return import_module(f"{fabric}.plugins.environments").LightningEnvironment()


def epochs_of(steps: int, per_epoch: int | None, accumulate: int) -> int:
    """Lightning's `max_epochs` for so many optimizer steps; -1 where an epoch has no length.

    >>> epochs_of(100, 30, 4), epochs_of(100, None, 1)
    (13, -1)
    """
    return -1 if per_epoch is None else math.ceil(steps / math.ceil(per_epoch / accumulate))


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning says nothing of devices, loggers and numbers of loader processes inside."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for name in PACKAGES:
            package = sys.modules.get(name)
            if package is not None:
                warnings.simplefilter("ignore", package.utilities.warnings.PossibleUserWarning)
        warnings.filterwarnings("ignore", ".*(LeafSpec|isinstance.treespec)")  # torch of Lightning's own use
        warnings.filterwarnings(
            "ignore", ".*lr_scheduler.step.. before .optimizer.step"
        )  # a step that fp16 left out
        warnings.filterwarnings("ignore", ".*batches_per_epoch|.*val_check_interval")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def contained() -> Iterator[None]:
    """Ctrl-C leaves a Trainer as KeyboardInterrupt, and the handlers of signals are as before.

    Lightning ignores SIGINT from the first Ctrl-C on and ends the process by sys.exit(1).
    """
    handlers = Handlers()
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        handlers.restore()


class Handlers:
    """The handlers of signals as they are now. Only the main thread can have put others in their place."""

    def __init__(self) -> None:
        self._kept = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore(self) -> None:
        """Puts them back."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, handler in self._kept.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
