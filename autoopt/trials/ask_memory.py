"""Asks processes of their own what a training step holds, and ends them whatever happens. Imports no torch.

The optimizers are shared out between two processes where there are the cores for it: a large model is traced in half
the time, and a small one loses nothing.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from autoopt.errors import WorkerError
from autoopt.hardware.cpu import cpu_slots
from autoopt.memory.answer import MemoryAnswer, MemoryRequest
from autoopt.optim import registry
from autoopt.optim.spec import Need
from autoopt.trials.process import environment_of_worker
from autoopt.trials.protocol import Failed, Lines

_FEW = 3
"""Optimizers up to which one process does: what both have to do first takes as long."""
_SECOND_ORDER = 7
"""Traces of a step that one of second order takes the time of."""


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
        timeout: seconds after which the processes are killed.
        progress: takes what they are doing, in words.
        visible: variables that show a process the device to measure on; by default it sees no GPU.

    Raises:
        WorkloadError, UserCodeError: the user's file cannot be used.
        WorkerError: a process died or took too long.
    """
    begin, asked = time.monotonic(), list[_Asked]()
    try:
        for names in _shares(request):
            asked.append(_Asked(request.model_copy(update={"optimizers": names}), visible))
        _read(asked, begin + timeout, progress)
        late = any(one.line is None for one in asked)
    finally:
        for one in asked:
            one.end()
    answers = [one.answer() for one in asked if one.line is not None]  # an error says more than being late
    if late:
        raise WorkerError(
            f"The prediction took longer than {timeout:.0f} s and was ended.",
            "Give it longer with --timeout, or try a smaller model of the same kind.",
        )
    return _joined(request, answers)


def _shares(request: MemoryRequest) -> list[list[str]]:
    """The optimizers of each process; steps on a device are measured by one alone."""
    names = request.optimizers
    if len(names) <= _FEW or request.measure_on is not None or cpu_slots() < 2:
        return [names]
    weights = {name: _SECOND_ORDER if Need.SECOND_ORDER in registry.get(name).needs else 1 for name in names}
    shares: tuple[list[str], list[str]] = ([], [])
    for name in sorted(names, key=lambda n: -weights[n]):
        min(shares, key=lambda share: sum(weights[n] for n in share)).append(name)
    return list(shares)


def _joined(request: MemoryRequest, answers: Sequence[MemoryAnswer]) -> MemoryAnswer:
    rows = {row.optimizer: row for answer in answers for row in answer.optimizers}
    notes = dict.fromkeys(note for answer in answers for note in answer.notes)
    return answers[0].model_copy(
        update={
            "optimizers": [rows[name] for name in request.optimizers],
            "notes": list(notes),
            "seconds": max(answer.seconds for answer in answers),
        }
    )


class _Asked:
    """A process with a request, and its answer."""

    def __init__(self, request: MemoryRequest, visible: Mapping[str, str] | None) -> None:
        self.line: bytes | None = None
        """The answer; empty when the process ended without one, None while there is none."""
        self.replies, theirs = os.pipe()
        self._lines, self._code = Lines(), 0
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "autoopt.trials.predictor", str(theirs)],
                stdin=subprocess.PIPE,
                stdout=sys.stderr.fileno() if _has_descriptor() else subprocess.DEVNULL,
                env=environment_of_worker(1, visible or {"CUDA_VISIBLE_DEVICES": ""}),
                pass_fds=(theirs,),
                start_new_session=True,  # it and its loaders can be killed together; Ctrl-C is ours to handle
            )
        except BaseException:
            os.close(self.replies)
            raise
        finally:
            os.close(theirs)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(request.model_dump_json().encode())

    def read(self, progress: Callable[[str], None]) -> None:
        """What there is to read."""
        data = os.read(self.replies, 1 << 16)
        if not data:
            self.line = b""
        for line in self._lines.feed(data):
            if line.startswith(b"+"):
                progress(line[1:].decode())
            else:
                self.line = line

    @property
    def failed(self) -> bool:
        """Whether it ended with an error, or without a word."""
        return not self.line or b'"kind":"failed"' in self.line[:40]

    def end(self) -> None:
        """Ends the process, if it has not ended."""
        os.close(self.replies)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._code = self._process.wait()

    def answer(self) -> MemoryAnswer:
        """What it said, after its end."""
        if not self.line:
            how = f"signal {-self._code}" if self._code < 0 else f"exit code {self._code}"
            raise WorkerError(
                f"The process that predicts memory died ({how}) before it answered.",
                "If this machine ran out of memory: build_model() may load weights; give it random ones here.",
            )
        if self.failed:
            raise Failed.model_validate_json(self.line).exception()
        return MemoryAnswer.model_validate_json(self.line)


def _read(asked: Sequence[_Asked], deadline: float, progress: Callable[[str], None]) -> None:
    """Reads all to their answers, or until one has failed or the time is over."""
    with selectors.DefaultSelector() as selector:
        for one in asked:
            selector.register(one.replies, selectors.EVENT_READ, one)
        while selector.get_map() and (ready := selector.select(max(0.0, deadline - time.monotonic()))):
            for key, _ in ready:
                ended: _Asked = key.data
                ended.read(progress)
                if ended.line is not None:
                    selector.unregister(ended.replies)
                    if ended.failed:
                        return


def _has_descriptor() -> bool:
    try:
        sys.stderr.fileno()
    except (OSError, ValueError):  # replaced by an object, as notebooks and tests do
        return False
    return True
