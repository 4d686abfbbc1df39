"""Trials in this process, one at a time: for closures and notebooks, which no other process could load."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from autoopt.errors import WorkloadError
from autoopt.options import steps_of
from autoopt.records import Outcome, TrialResult, TrialSpec, WorkloadReport
from autoopt.trials.drive import Throttle, drive
from autoopt.trials.engine import Engine, WorkloadEngine
from autoopt.trials.runner import Progress

if TYPE_CHECKING:
    from autoopt.workload import Workload


class InProcess:
    """A runner with a single slot; the trial advances inside `wait`.

    Exceptions and sys.exit in the user's code are outcomes as in a worker; a crash or a hang is not survived,
    and KeyboardInterrupt goes to the caller.

    Args:
        workload: what the trials train.
        engine: how; a seam for tests.

    >>> import torch
    >>> from autoopt.trials.testing import spec
    >>> from autoopt.workload import from_callables
    >>> data = [(torch.randn(4, 3), torch.randn(4, 1)) for _ in range(8)]
    >>> workload = from_callables(
    ...     model=lambda: torch.nn.Linear(3, 1),
    ...     train=lambda: data,
    ...     val=lambda: data[:2],
    ...     loss=lambda model, batch: (model(batch[0]) - batch[1]).square().mean(),
    ... )
    >>> runner = InProcess(workload)
    >>> report = runner.start()
    >>> runner.submit(0, spec(7, "adamw"))
    >>> [type(item).__name__ for item in runner.wait(60)]
    ['Progress', 'TrialResult']
    >>> runner.close()
    """

    def __init__(self, workload: Workload, engine: Callable[[Workload], Engine] = WorkloadEngine) -> None:
        self._engine = engine(workload)
        self._spec: TrialSpec | None = None
        self._step = 0
        self._trial: Generator[Progress | TrialResult, None, None] | None = None
        self._throttle = Throttle()
        self._loaded = self._closed = False

    @property
    def slots(self) -> int:
        """One."""
        return 1

    def start(self) -> WorkloadReport:
        """Measures the workload.

        Raises: what the workload raises (WorkloadError ...).
        """
        report = self._engine.load(full=True)
        if report is None:
            raise WorkloadError("The workload gave no report.")
        self._loaded = True
        return report

    def idle(self) -> list[int]:
        """The slot, unless a trial is under way."""
        return [0] if self._loaded and not self._closed and self._trial is None else []

    def submit(self, slot: int, spec: TrialSpec) -> None:
        """Takes a trial in; it begins with the next `wait`.

        Raises: ValueError when the slot is not idle.
        """
        if slot not in self.idle():
            raise ValueError(f"slot {slot} is not idle")
        self._throttle, self._step = Throttle(), 0
        self._spec = spec
        self._trial = drive(self._engine, spec, 0, interrupts_pass=True)

    def wait(self, timeout: float) -> list[Progress | TrialResult]:
        """Advances the trial for `timeout` seconds, or to its end; at least by one step."""
        deadline = time.monotonic() + timeout
        happened: list[Progress | TrialResult] = []
        while self._trial is not None:
            item = next(self._trial)
            if isinstance(item, TrialResult):
                happened.append(item)
                self._over()
                break
            self._step = item.step
            if self._throttle.ready():
                happened.append(item)
            if time.monotonic() >= deadline:
                break
        return happened

    def cancel(self) -> list[TrialResult]:
        """Ends the trial under way, if any, without another step of it."""
        if self._trial is None or self._spec is None:
            return []
        steps = steps_of(self._spec.hyper, self._spec.steps)
        result = TrialResult(
            spec=self._spec,
            outcome=Outcome.CANCELLED,
            message=f"cancelled after step {self._step} of {steps}",
            steps_done=self._step,
        )
        self._over()
        return [result]

    def close(self) -> None:
        """Ends the trial under way and what the workload has started."""
        if not self._closed:
            self._closed = True
            self._over()
            self._engine.close()

    def _over(self) -> None:
        if self._trial is not None:
            self._trial.close()
        self._trial = self._spec = None
