"""What a worker drives: it loads a workload once and executes trials on it.

An engine is the seam at which tests put a fake (see `autoopt.trials.testing`). No torch before it loads.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from autoopt.errors import WorkloadError
from autoopt.records import Outcome, Shortage, TrialResult, TrialSpec, WorkloadReport
from autoopt.trials.failures import outcome_of
from autoopt.trials.protocol import Load
from autoopt.trials.runner import Progress
from autoopt.trials.shortage import sentence, shortage_of, way_out

if TYPE_CHECKING:
    from autoopt.trials.own_loop import LoopEngine
    from autoopt.workload import Workload

FILE_ENGINE = "autoopt.trials.engine:FileEngine"
"""Import string of the engine that workers use unless told otherwise."""


class Engine(Protocol):
    """Loads once, then executes one trial after the other."""

    def load(self, *, full: bool) -> WorkloadReport | None:
        """Makes ready for trials; with `full` also measures and reports."""

    def execute(self, spec: TrialSpec) -> Iterator[Progress | TrialResult]:
        """Runs a trial; the last item is its result. Exceptions pass through."""

    def close(self) -> None:
        """Ends what was started (loader processes)."""


@runtime_checkable
class Explains(Protocol):
    """What an engine may do besides: make an answer of memory that ran out."""

    def short(self, text: str) -> Shortage:
        """What was asked for and what is free; `text` is the error's. Called while the error is handled."""

    def smaller(self, spec: TrialSpec, step: int, shortage: Shortage) -> Shortage:
        """The same with the largest batch that fits; leaves the device clean. Called after the error is gone."""


_CALIBRATIONS = [
    TrialSpec(id=0, stage="calibration", optimizer=name, hyper={"lr": 1e-6}, steps=3, seed=0)
    for name in ("adamw", "sgd")
]
"""With the usual state and with none."""


class WorkloadEngine:
    """The engine for a workload that is already loaded, e.g. from callables in this process.

    Args:
        timing_seconds: that timing the optimizers may take when it reports.
    """

    def __init__(self, workload: Workload, timing_seconds: float | None = None) -> None:
        self._workload, self._timing_seconds = workload, timing_seconds

    def load(self, *, full: bool) -> WorkloadReport | None:
        """Raises: WorkloadError when no training step fits, with the largest batch that does."""
        if not full:
            return None
        try:
            return self._workload.report(timing_seconds=self._timing_seconds)
        except Exception as error:
            outcome, text = outcome_of(error)
            if outcome is not Outcome.OUT_OF_MEMORY:
                raise
            shortage = self.short(text)
        # Outside the handler, whose traceback holds on to tensors.
        for spec in _CALIBRATIONS:
            shortage = self.smaller(spec, 0, shortage)
            if shortage.fits is not None:
                break
        raise WorkloadError(
            f"A training step of {self._workload.target} does not fit: {sentence(shortage)}.",
            way_out(shortage),
        )

    def execute(self, spec: TrialSpec) -> Iterator[Progress | TrialResult]:
        from autoopt.trials.execute import execute

        return execute(self._workload, spec)

    def short(self, text: str) -> Shortage:
        from autoopt.memory.room import room

        free, total = room(self._workload.device)
        return shortage_of(text, str(self._workload.device), free, total)

    def smaller(self, spec: TrialSpec, step: int, shortage: Shortage) -> Shortage:
        from autoopt.trials.smaller import largest_fit

        return largest_fit(self._workload, spec, shortage, step)

    def close(self) -> None:
        self._workload.close()


class FileEngine:
    """The engine of a worker process: loads the user's file on the worker's device."""

    def __init__(self, request: Load) -> None:
        self._request = request
        self._engine: WorkloadEngine | LoopEngine | None = None

    def load(self, *, full: bool) -> WorkloadReport | None:
        import torch

        request = self._request
        torch.set_num_threads(request.threads)
        torch.set_num_interop_threads(1)
        device = torch.device(request.device)
        if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
            # So that a bare `.cuda()` in the user's code goes to the card of this worker. A card that is not
            # there is refused by the workload, in words.
            torch.cuda.set_device(device)
        from autoopt.trials.own_loop import LoopEngine
        from autoopt.workload.entry import load_any
        from autoopt.workload.own_loop import OwnLoop

        group = None
        if request.ranks:
            from autoopt.workload.group import Group

            group = Group(device)
        workload = load_any(request.target, request.arguments, request.flags, request.device, group)
        # The first optimizer of a process imports torch's compiler (over a second): paid here, in parallel
        # with the other workers, and not by the first trial.
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        if isinstance(workload, OwnLoop):
            self._engine = LoopEngine(workload)
        else:
            self._engine = WorkloadEngine(workload, request.timing_seconds)
        return self._engine.load(full=full)

    def execute(self, spec: TrialSpec) -> Iterator[Progress | TrialResult]:
        if self._engine is None:
            raise RuntimeError("load() comes before execute()")
        return self._engine.execute(spec)

    def short(self, text: str) -> Shortage:
        if self._engine is None:
            raise RuntimeError("load() comes before short()")
        return self._engine.short(text)

    def smaller(self, spec: TrialSpec, step: int, shortage: Shortage) -> Shortage:
        if self._engine is None:
            raise RuntimeError("load() comes before smaller()")
        return self._engine.smaller(spec, step, shortage)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


def resolve(name: str) -> Callable[[Load], Engine]:
    """The factory behind an import string "module:attribute".

    Raises: ImportError or AttributeError when it is not there.
    """
    module, _, attribute = name.partition(":")
    return cast("Callable[[Load], Engine]", getattr(importlib.import_module(module), attribute))
