"""Asks a process of its own what a training step holds, and ends that process whatever happens. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from autoopt.errors import WorkerError
from autoopt.memory.answer import MemoryAnswer, MemoryRequest
from autoopt.trials.process import environment_of_worker
from autoopt.trials.protocol import Failed, Lines


def ask(
    request: MemoryRequest,
    *,
    timeout: float = 300.0,
    progress: Callable[[str], None] = lambda _: None,
    visible: Mapping[str, str] | None = None,
) -> MemoryAnswer:
    """The prediction.

    Args:
        request: what to predict.
        timeout: seconds after which the process is killed.
        progress: takes what it is doing, in words.
        visible: variables that show the process the device to measure on; by default it sees no GPU.

    Raises:
        WorkloadError, UserCodeError: the user's file cannot be used.
        WorkerError: the process died or took too long.
    """
    replies, theirs = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "autoopt.trials.predictor", str(theirs)],
            stdin=subprocess.PIPE,
            stdout=sys.stderr.fileno() if _has_descriptor() else subprocess.DEVNULL,
            env=environment_of_worker(1, visible or {"CUDA_VISIBLE_DEVICES": ""}),
            pass_fds=(theirs,),
            start_new_session=True,  # it and its loaders can be killed together; Ctrl-C is ours to handle
        )
    except BaseException:
        os.close(replies)
        raise
    finally:
        os.close(theirs)
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(request.model_dump_json().encode())
        line = _last_line(replies, time.monotonic() + timeout, progress)
    finally:
        os.close(replies)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    if line is None:
        raise WorkerError(
            f"The prediction took longer than {timeout:.0f} s and was ended.",
            "Give it longer with --timeout, or try a smaller model of the same kind.",
        )
    if not line:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise WorkerError(
            f"The process that predicts memory died ({how}) before it answered.",
            "If this machine ran out of memory: build_model() may load weights; give it random ones here.",
        )
    if b'"kind":"failed"' in line[:40]:
        raise Failed.model_validate_json(line).exception()
    return MemoryAnswer.model_validate_json(line)


def _last_line(fd: int, deadline: float, progress: Callable[[str], None]) -> bytes | None:
    """The answer; empty when the process ended without one, None when the time is over."""
    lines = Lines()
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            data = os.read(fd, 1 << 16)
            if not data:
                return b""
            for line in lines.feed(data):
                if not line.startswith(b"+"):
                    return line
                progress(line[1:].decode())
    return None


def _has_descriptor() -> bool:
    try:
        sys.stderr.fileno()
    except (OSError, ValueError):  # replaced by an object, as notebooks and tests do
        return False
    return True
