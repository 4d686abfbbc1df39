"""From an exception or a dead process to an outcome and a sentence. Imports no torch."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from autoopt.errors import AutooptError, UserCodeError
from autoopt.records import Outcome

_NO_MEMORY = ("not enough memory", "out of memory", "can't allocate memory", "cannot allocate memory")


def outcome_of(error: BaseException) -> tuple[Outcome, str]:
    """Outcome and message of a trial that ended in `error`.

    >>> outcome_of(ValueError("no such column"))
    (<Outcome.ERROR: 'error'>, 'ValueError: no such column')
    """
    if memory := next((link for link in _chain(error) if is_out_of_memory(link)), None):
        return Outcome.OUT_OF_MEMORY, _sentence(memory)
    if isinstance(error, SystemExit):
        return Outcome.EXITED, f"the code called sys.exit({_exit_argument(error)}){_place(error)}"
    if isinstance(error, AutooptError):
        place = error.where if isinstance(error, UserCodeError) else ""
        known = not place or Path(place).name in error.message  # "loss() in model.py:7 raised ..." has it
        where = "" if known else f" ({place})"
        return Outcome.ERROR, f"{error.message}{where}"
    return Outcome.ERROR, _sentence(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory of the host or of an accelerator ran out."""
    if isinstance(error, MemoryError):
        return True
    # A look into sys.modules instead of an import: the coordinator must not load torch, and where torch was
    # never loaded its exception cannot have been raised.
    kind = getattr(sys.modules.get("torch"), "OutOfMemoryError", None)
    if kind is not None and isinstance(error, kind):
        return True
    # torch's CPU allocator raises a bare RuntimeError.
    return isinstance(error, RuntimeError | OSError) and any(s in str(error).lower() for s in _NO_MEMORY)


def load_failure(error: BaseException, target: str) -> AutooptError:
    """The error to show the user when loading `target` ended in `error`."""
    if isinstance(error, AutooptError):
        return error
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, SystemExit):
        return UserCodeError(
            f"{target} called sys.exit({_exit_argument(error)}) while it was being loaded{_place(error)}.",
            'Put what runs a training under `if __name__ == "__main__":`.',
            trace=trace,
        )
    if is_out_of_memory(error):
        return UserCodeError(
            f"Loading {target} ran out of memory: {_sentence(error)}",
            "Use a smaller model or batch, fewer workers (--workers 1), or another device.",
            trace=trace,
        )
    return UserCodeError(f"Loading {target} failed: {_sentence(error)}", trace=trace)


def death(code: int | None, signal_number: int | None) -> str:
    """How a process ended, in words.

    >>> death(None, 11), death(3, None)
    ('killed by SIGSEGV', 'ended with exit code 3')
    """
    if signal_number is not None:
        try:
            return f"killed by {signal.Signals(signal_number).name}"
        except ValueError:
            return f"killed by signal {signal_number}"
    return "ended in an unknown way" if code is None else f"ended with exit code {code}"


def oom_kills() -> int | None:
    """How often the kernel has killed a process for lack of memory; None where it does not tell.

    The kernel of Linux 4.13 and later counts every such kill, those inside a cgroup too.
    """
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _sentence(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _exit_argument(error: SystemExit) -> str:
    return "" if error.code is None else repr(error.code)


def _place(error: BaseException) -> str:
    """Where the innermost frame is: for sys.exit that is the line of the user's which called it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
