"""Every error that autoopt raises on purpose.

    AutooptError                    exit code
    |-- UsageError                  2   a flag, an argument or a name that cannot be used
    |   |-- BudgetError             2   a budget that is no duration, or too small to do anything
    |   |-- PolicyError             2   a policy file, named with line and key
    |   |-- UnknownOptimizer        2   not in the registry; the nearest names are given
    |   |-- OptimizerUnavailable    2   known, but its package or this torch lacks it
    |   `-- DeviceError             2   a device that is not there
    |-- WorkloadError               3   the user's file: something missing, or wrong in what it returns
    |   `-- UserCodeError           3   the user's code raised; carries their file and line
    |-- RunError                    4   a run's folder: locked, changed since, not a run
    |   `-- DiskFull                4   no space left to write to
    |-- NoResult                    5   every trial failed or diverged
    `-- WorkerError                 6   the trial workers could not be started or kept alive
        `-- ClusterGone             6   the cluster, or all of its machines that were used, cannot be reached now

Each has a message (one clear sentence) and a hint (the way out).
"""

from __future__ import annotations


class AutooptError(Exception):
    """Base of all deliberate errors: a sentence, a way out and an exit code."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(AutooptError):
    """A flag, argument or name that cannot be used."""

    exit_code = 2


class BudgetError(UsageError):
    """A budget that is not a duration, or is too small to do anything with."""


class PolicyError(UsageError):
    """A policy that cannot be read; the message names file, line and key."""


class UnknownOptimizer(UsageError):
    """A name that the registry does not have."""


class OptimizerUnavailable(UsageError):
    """A known optimizer whose package is not installed, or that this torch lacks."""


class DeviceError(UsageError):
    """A device that is not on this machine."""


class WorkloadError(AutooptError):
    """The user's file lacks something or returns something unusable."""

    exit_code = 3


class UserCodeError(WorkloadError):
    """The user's own code raised.

    `where` is "file:line" of the innermost frame in the user's project; `trace` is their
    traceback with the frames of autoopt left out.
    """

    def __init__(self, message: str, hint: str = "", *, where: str = "", trace: str = "") -> None:
        super().__init__(message, hint)
        self.where = where
        self.trace = trace


class RunError(AutooptError):
    """A run's folder cannot be used: locked, changed since it was made, or not a run."""

    exit_code = 4


class DiskFull(RunError):
    """No space is left for what was to be written; what was there before is whole."""


class NoResult(AutooptError):
    """Nothing to recommend: every trial failed or diverged."""

    exit_code = 5


class WorkerError(AutooptError):
    """The trial workers could not be started, or died and could not be replaced."""

    exit_code = 6


class ClusterGone(WorkerError):
    """A cluster that cannot be reached now, or has lost every machine that was used: what was measured is kept."""
