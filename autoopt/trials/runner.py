"""What runs trials, as the planner's loop sees it. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from autoopt.records import TrialResult, TrialSpec, WorkloadReport


@dataclass(frozen=True)
class Progress:
    """A sign of life of a running trial: `step` of `steps` are done, the last training loss was `loss`.

    `loss` is None where it is not a finite number. `worker` is the slot; whoever runs the trial sets it.
    """

    worker: int
    trial: int
    step: int
    steps: int
    loss: float | None


class Runner(Protocol):
    """Runs trials in `slots` places at once. A failed trial is a TrialResult, never an exception.

    >>> def run_all(runner: Runner, specs: list[TrialSpec]) -> list[TrialResult]:
    ...     results, todo, total = [], list(specs), len(specs)
    ...     runner.start()
    ...     while len(results) < total:
    ...         for slot in runner.idle()[: len(todo)]:
    ...             runner.submit(slot, todo.pop(0))
    ...         results += [item for item in runner.wait(0.5) if isinstance(item, TrialResult)]
    ...     runner.close()
    ...     return results
    """

    @property
    def slots(self) -> int:
        """Places that can still run trials; a place whose worker cannot be revived is no longer counted."""

    def start(self) -> WorkloadReport:
        """Loads the workload everywhere; returns what the first place has measured.

        Raises: the AutooptError that loading ended in (WorkloadError, DeviceError ...); WorkerError when the
            process died.
        """

    def idle(self) -> list[int]:
        """Slots that can take a trial now."""

    def submit(self, slot: int, spec: TrialSpec) -> None:
        """Starts a trial in an idle slot.

        Raises: ValueError when the slot is not idle.
        """

    def wait(self, timeout: float) -> list[Progress | TrialResult]:
        """What happened, at the latest after `timeout` seconds; empty and early when a slot became idle.

        Raises: WorkerError when no slot is left that could run anything.
        """

    def cancel(self) -> list[TrialResult]:
        """Ends the trials in flight, as CANCELLED, and returns every result not yet handed out."""

    def close(self) -> None:
        """Ends everything; may be called twice."""
