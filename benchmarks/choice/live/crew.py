"""Warm worker processes for everybody but the product, which has its own: one torch thread each."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType

from autoopt.records import WorkloadReport
from benchmarks.choice.live import worker
from benchmarks.choice.live.nouns import STOP, Ended, Seen, Task

OVERRUN = 1.02
"""Of the time given: what trains longer is cut off, as the product's loop does it."""
_GRACE = 5.0
_LONGEST_WAIT = 60.0


class Crew:
    """Workers that have loaded one workload.

    Args:
        target: its file.
        workers: processes.

    >>> with Crew(Path("model.py")) as crew:  # doctest: +SKIP
    ...     crew.run(10.0, lambda now: next(tasks, None), ended=lambda task, end: print(task, end.loss))
    """

    def __init__(self, target: Path, workers: int = 2) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmarks.choice.live.worker"])
        begin = time.monotonic()
        self.workers = workers
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        for number in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=worker.main, args=(theirs, str(target), number == 0))
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        try:
            self.report = self._loaded()
        except BaseException:
            self.close()
            raise
        self.startup = time.monotonic() - begin

    def _loaded(self) -> WorkloadReport:
        """Waits for all of them; what the first has measured."""
        answers = [self._receive(pipe) for pipe in self._pipes]
        for answer in answers:
            if isinstance(answer, str):
                raise RuntimeError(f"A worker could not load the workload: {answer}")
        assert isinstance(answers[0], WorkloadReport)
        return answers[0]

    def _receive(self, pipe: Connection) -> object:
        try:
            return pipe.recv()
        except EOFError:
            raise RuntimeError("A worker process died; what it printed is above.") from None

    def run(
        self,
        seconds: float,
        ask: Callable[[float], Task | None],
        ended: Callable[[Task, Ended], None],
        seen: Callable[[Task, Seen], bool] = lambda _task, _seen: True,
    ) -> float:
        """Gives every free worker what `ask(seconds so far)` proposes, until that is None or the time is up.

        Args:
            ended: told of every training that ended in time, and of those that were stopped.
            seen: told of a validation on the way; whether the training goes on.

        Returns: seconds from the begin to the end of the last training that counts.
        """
        begin = time.monotonic()
        flying: dict[Connection, Task] = {}
        while (now := time.monotonic() - begin) < OVERRUN * seconds:
            for pipe in self._pipes:
                task = ask(now) if pipe not in flying and now < seconds else None
                if task is not None:
                    pipe.send(task)
                    flying[pipe] = task
            if not flying:
                break
            for pipe in wait(list(flying), min(_LONGEST_WAIT, OVERRUN * seconds - now)):
                assert isinstance(pipe, Connection)
                answer = self._receive(pipe)
                if isinstance(answer, Seen):
                    pipe.send("go on" if seen(flying[pipe], answer) else STOP)
                else:
                    assert isinstance(answer, Ended)
                    ended(flying.pop(pipe), answer)
        end = time.monotonic() - begin
        self._stop(list(flying))
        return end

    def _stop(self, pipes: list[Connection]) -> None:
        for pipe in pipes:
            pipe.send(STOP)
        for pipe in pipes:
            # It may have ended by itself in the meantime; then the word to stop still lies in its pipe.
            answer = self._receive(pipe)
            while isinstance(answer, Seen):
                answer = self._receive(pipe)

    def close(self) -> None:
        """Ends the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(_GRACE)
            if process.is_alive():
                process.kill()
                process.join()

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
