"""What a worker drives: it loads a workload once and executes trials on it.

An engine is the seam at which tests put a fake (see `autoopt.trials.testing`). No torch before it loads.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, cast

from autoopt.records import TrialResult, TrialSpec, WorkloadReport
from autoopt.trials.protocol import Load
from autoopt.trials.runner import Progress

if TYPE_CHECKING:
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


class WorkloadEngine:
    """The engine for a workload that is already loaded, e.g. from callables in this process.

    Args:
        timing_seconds: that timing the optimizers may take when it reports.
    """

    def __init__(self, workload: Workload, timing_seconds: float | None = None) -> None:
        self._workload, self._timing_seconds = workload, timing_seconds

    def load(self, *, full: bool) -> WorkloadReport | None:
        return self._workload.report(timing_seconds=self._timing_seconds) if full else None

    def execute(self, spec: TrialSpec) -> Iterator[Progress | TrialResult]:
        from autoopt.trials.execute import execute

        return execute(self._workload, spec)

    def close(self) -> None:
        self._workload.close()


class FileEngine:
    """The engine of a worker process: loads the user's file on the worker's device."""

    def __init__(self, request: Load) -> None:
        self._request = request
        self._engine: WorkloadEngine | None = None

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
        from autoopt.workload import load

        workload = load(request.target, request.arguments, request.flags, request.device)
        # The first optimizer of a process imports torch's compiler (over a second): paid here, in parallel
        # with the other workers, and not by the first trial.
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        self._engine = WorkloadEngine(workload, request.timing_seconds)
        return self._engine.load(full=full)

    def execute(self, spec: TrialSpec) -> Iterator[Progress | TrialResult]:
        if self._engine is None:
            raise RuntimeError("load() comes before execute()")
        return self._engine.execute(spec)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


def resolve(name: str) -> Callable[[Load], Engine]:
    """The factory behind an import string "module:attribute".

    Raises: ImportError or AttributeError when it is not there.
    """
    module, _, attribute = name.partition(":")
    return cast("Callable[[Load], Engine]", getattr(importlib.import_module(module), attribute))
