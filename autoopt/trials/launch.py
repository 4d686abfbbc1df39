"""A worker of several processes: torch's elastic launcher starts the ranks that train one model together.

    keeper --(forks)--> launcher --(forks)--> rank 0, rank 1, ...

The launcher imports torch once, and the ranks are forked from it: N of them start in the time of one. Rank 0 speaks the
worker's protocol, the others follow it (`autoopt.trials.ranks`). A rank that dies takes the others along within a moment,
which is what the elastic launcher watches for; the launcher then tells the coordinator whose end it was, and why. Trials go
on in another group: the launcher restarts none by itself, as nobody knows what a broken collective has left behind.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import time
from types import FrameType

import psutil

from autoopt.records import Record
from autoopt.trials.engine import FILE_ENGINE
from autoopt.trials.protocol import Ended, Failed, Finished, Load, encode
from autoopt.trials.ranks import Ends, attend

_MONITOR_SECONDS = 0.1
_STACK_SECONDS = 0.5
"""So long the ranks have to write their stacks to the log, where the trial hangs."""


def launch(request: Load, commands: int, replies: int) -> int:
    """Runs the ranks of `request` until they leave; returns the exit code of this process."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    faulthandler.disable()  # SIGABRT is for the ranks
    signal.signal(signal.SIGABRT, _show_stacks)
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # what it says is told below, in words
    if request.engine == FILE_ENGINE:
        _import_once()
    ends = Ends(len(request.ranks))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=len(request.ranks),
        run_id=f"autoopt-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",  # no look-up of a host's name, which may take its time
        max_restarts=0,
        monitor_interval=_MONITOR_SECONDS,
        start_method="fork",  # the pipes are theirs too
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),  # they write to the worker's log
        shutdown_timeout=1,
    )
    try:
        elastic_launch(config, attend)(request, commands, replies, ends)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        _tell(replies, ends.last_words() if failure.exitcode > 0 else None, rank, failure.exitcode)
        return 1
    return 0


def _import_once() -> None:
    """What every rank needs is imported before they are forked; no thread is started and no device is touched by it."""
    import torch

    import autoopt.trials.execute
    import autoopt.workload.entry
    import autoopt.workload.group  # noqa: F401

    torch.optim.SGD(
        [torch.zeros(1, requires_grad=True)], lr=0.1
    )  # imports torch's compiler, of which it is a part


def _tell(replies: int, words: Failed | Finished | None, rank: int, code: int) -> None:
    """What became of the group: a rank's last words, or how it died. A rank killed in mid-word has left half a line."""
    message: Record = words or Ended(
        rank=rank, code=code if code >= 0 else None, signal=-code if code < 0 else None
    )
    with contextlib.suppress(OSError):
        os.write(replies, b"\n" + encode(message))


def _show_stacks(_signal: int, _frame: FrameType | None) -> None:
    """The coordinator found that nothing moves: each rank writes where it is and dies, and so does this process."""
    for rank in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            rank.send_signal(signal.SIGABRT)
    time.sleep(_STACK_SECONDS)
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGABRT)
