"""A pool of warm worker processes. Runs in the coordinator, which imports no torch."""

from __future__ import annotations

import os
import selectors
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from autoopt.errors import ClusterGone, WorkerError
from autoopt.records import Flags, Outcome, TrialResult, TrialSpec, WorkloadReport
from autoopt.trials.engine import FILE_ENGINE
from autoopt.trials.process import Process
from autoopt.trials.protocol import Cancel, Ended, Load, Stop
from autoopt.trials.runner import Progress
from autoopt.trials.slot import Slot, State

_MAX_DEATHS = 3
_TICK = 0.25
"""Deadlines are looked at so often, in seconds."""
_REAP_SECONDS = 5.0


class Pool:
    """Runs trials in warm worker processes, one per slot; see `autoopt.trials.runner.Runner`.

    A trial that crashes, hangs, exits or runs out of memory takes its process along and nothing else; another
    process is started in its place while the other slots go on.

    Args:
        target: the user's file, or package.module:function.
        arguments: what that function gets.
        flags: what overrides the file's settings.
        devices: device of each slot, in turn; with `ranks` of each rank of a slot, the same in all slots.
        workers: number of slots; one per device unless given.
        ranks: processes of a worker, which train each model together.
        threads: CPU threads of a worker, of each of its processes; the cores that we may use, divided, unless given.
        log_dir: worker-<slot>.log in here gets what the user's code prints.
        environment: variables for the workers, over those of this process (CUDA_VISIBLE_DEVICES ...); or for each slot.
        engine: import string of a factory Load -> Engine.
        load_seconds: a load that takes longer is stopped.
        timing_seconds: that timing the optimizers may take in it.
        grace_seconds: so long a worker has to notice that it is cancelled or to leave.
        launch: starts the process of a slot: (slot, what it loads) -> process; one on this machine unless given.

    >>> with Pool("model.py", log_dir=Path("autoopt-out/model/logs"), workers=2) as pool:  # doctest: +SKIP
    ...     report = pool.start()
    ...     pool.submit(pool.idle()[0], spec)
    ...     pool.wait(0.5)
    """

    def __init__(
        self,
        target: str,
        arguments: Sequence[str] = (),
        flags: Flags | None = None,
        *,
        log_dir: Path,
        devices: Sequence[str] = ("cpu",),
        workers: int | None = None,
        ranks: int = 1,
        threads: int | None = None,
        environment: Mapping[str, str] | Sequence[Mapping[str, str]] | None = None,
        engine: str = FILE_ENGINE,
        load_seconds: float = 900.0,
        timing_seconds: float | None = None,
        grace_seconds: float = 2.0,
        launch: Callable[[int, Load], Process] | None = None,
    ) -> None:
        count = len(devices) // ranks if workers is None else workers
        if count < 1 or not devices:
            raise ValueError("a pool needs at least one worker and one device")
        threads = threads or max(1, _cores() // (count * ranks))
        self._grace = grace_seconds
        self._selector = selectors.DefaultSelector()
        self._ready: list[Progress | TrialResult] = []
        self._closed = False

        def make(index: int) -> Slot:
            def start() -> Process:
                request = Load(
                    engine=engine,
                    target=target,
                    arguments=list(arguments),
                    flags=flags or Flags(),
                    device=devices[index % len(devices)] if ranks == 1 else devices[0],
                    ranks=[] if ranks == 1 else [devices[rank % len(devices)] for rank in range(ranks)],
                    slot=index,
                    threads=threads,
                    full=index == 0 and slot.loaded is None,
                    timing_seconds=timing_seconds,
                )
                if launch is not None:
                    return launch(index, request)
                own = environment or {}
                mine = own if isinstance(own, Mapping) else own[index]
                return Process(request, log_dir / f"worker-{index}.log", mine)

            slot = Slot(index, start, load_seconds, _MAX_DEATHS)
            return slot

        self._make = make
        self._slots = [make(index) for index in range(count)]

    @property
    def slots(self) -> int:
        """Slots that are not lost."""
        return sum(slot.state is not State.LOST for slot in self._slots)

    def start(self) -> WorkloadReport:
        """Starts all workers at once; returns when the first has measured, while others may still load.

        Raises: the AutooptError in which the first worker's load ended; WorkerError when its process died.
        """
        first = self._slots[0]
        try:
            self._revive()
            while first.loaded is None:
                self._turn(_TICK)
                if first.error is not None:
                    raise first.error
            if first.loaded.report is None:
                raise WorkerError("The first worker has loaded and sent no report.")
            return first.loaded.report
        except BaseException:
            self.close()
            raise

    def idle(self) -> list[int]:
        """Slots that can take a trial now."""
        return [slot.index for slot in self._slots if slot.state is State.IDLE]

    def submit(self, slot: int, spec: TrialSpec) -> None:
        """Starts a trial in an idle slot.

        Raises: ValueError when the slot is not idle.
        """
        self._slots[slot].run(spec)

    def wait(self, timeout: float) -> list[Progress | TrialResult]:
        """What happened, at the latest after `timeout` seconds; empty and early when a slot became idle.

        Raises: WorkerError when no slot is left that could run anything.
        """
        deadline = time.monotonic() + timeout
        idle = self.idle()
        while True:
            self._revive()
            if not self._ready and not self.slots:
                raise self._all_lost()
            left = deadline - time.monotonic()
            self._turn(min(_TICK, max(0.0, left)))
            if self._ready or left <= 0 or set(self.idle()) - set(idle):
                break
        ready, self._ready = self._ready, []
        return ready

    def cancel(self) -> list[TrialResult]:
        """Ends the trials in flight, as CANCELLED, and returns every result not yet handed out.

        A trial that is done before it notices keeps its result. One that does not notice is killed.
        """
        for slot in self._slots:
            if slot.spec is not None and slot.process is not None:
                slot.process.send(Cancel(trial=slot.spec.id))
        self._until(lambda: all(slot.spec is None for slot in self._slots), self._grace)
        for slot in self._slots:
            if slot.spec is not None:
                slot.end(
                    Outcome.CANCELLED, f"cancelled, and killed when it did not stop in {self._grace:g} s"
                )
        self._until(lambda: all(slot.spec is None for slot in self._slots), _REAP_SECONDS)
        results = [item for item in self._ready if isinstance(item, TrialResult)]
        self._ready = []
        return results

    def shrink(self, workers: int) -> None:
        """Gives up slots until `workers` are left, the first one never; for use before trials begin."""
        for slot in self._slots[max(1, workers) :]:
            if slot.process is not None:
                slot.end(Outcome.CANCELLED, "given up for lack of memory")
                self._until(lambda slot=slot: slot.process is None, _REAP_SECONDS)  # type: ignore[misc]
            slot.lose()

    def grow(self) -> int:
        """Adds a slot, whose worker is started with the next `wait`; returns its number."""
        self._slots.append(self._make(len(self._slots)))
        return len(self._slots) - 1

    def drop(self, slot: int) -> None:
        """Gives up a slot whose place is gone for good; a trial that is in flight there ends first."""
        self._slots[slot].retire()

    def alive(self) -> dict[int, bool]:
        """The slots that are not lost, and of each whether its worker has loaded."""
        return {
            slot.index: slot.state in (State.IDLE, State.BUSY)
            for slot in self._slots
            if slot.state is not State.LOST
        }

    def give_back(self, slot: int) -> bool:
        """Ends the worker of a slot that trains nothing, and starts no other; a busy one stays, and `False` says so."""
        if self._slots[slot].state not in (State.DOWN, State.LOADING, State.IDLE):
            return False
        self._slots[slot].retire()
        if self._slots[slot].process is not None:
            self._slots[slot].end(Outcome.CANCELLED, "given back")
        return True

    def close(self) -> None:
        """Ends all processes, those busy included; idle ones may clean up for the grace time."""
        if self._closed:
            return
        self._closed = True
        for slot in self._slots:
            if slot.process is not None and slot.state is State.IDLE:
                slot.process.send(Stop())
                slot.state = State.ENDING
            elif slot.process is not None:
                slot.end(Outcome.CANCELLED, "the pool was closed")
        try:
            self._until(lambda: all(slot.process is None for slot in self._slots), self._grace)
        finally:
            alive = [slot.process for slot in self._slots if slot.process is not None]
            for process in alive:
                process.kill()
            for process in alive:
                process.reap(_REAP_SECONDS)
            for slot in self._slots:
                slot.lose()
            self._selector.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _revive(self) -> None:
        for slot in self._slots:
            if process := slot.revive():
                self._selector.register(process, selectors.EVENT_READ, slot)

    def _turn(self, timeout: float) -> None:
        """Waits for replies, takes them in, then looks at deadlines."""
        for key, _ in self._selector.select(timeout):
            slot: Slot = key.data
            replies = slot.process.receive() if slot.process is not None else []
            if replies and isinstance(replies[-1], Ended):
                self._selector.unregister(key.fileobj)
            for reply in replies:
                if (item := slot.take(reply)) is not None:
                    self._ready.append(item)
        for slot in self._slots:
            slot.check()

    def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and (left := deadline - time.monotonic()) > 0:
            self._turn(min(_TICK, left))

    def _all_lost(self) -> WorkerError:
        last = next((slot.error for slot in self._slots if slot.error is not None), None)
        if last is None:
            return WorkerError("The pool is closed.")
        kind = ClusterGone if isinstance(last, ClusterGone) else WorkerError
        return kind(f"No worker could be kept alive; the last one said: {last.message}", last.hint)


def _cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
