"""The loop between planner and runner: ask, run, tell, write the event; until the time is up or somebody stops it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from autoopt.occupancy import Occupancy
from autoopt.records import Event, Outcome, StageEnded, TrialFinished, TrialResult, TrialStarted
from autoopt.run import Run
from autoopt.trials.runner import Progress, Runner
from autoopt.tuning.planner import Planner

_TICK = 0.25
_OVERRUN = 0.02
"""Share of the budget by which trials may outlive the deadline before they are cancelled."""


class Observer(Protocol):
    """Somebody who watches a run: the terminal, a notebook, a test."""

    def event(self, event: Event) -> None:
        """Something that was also written to the run's events."""

    def progress(self, progress: Progress) -> None:
        """A sign of life of a trial."""

    def tick(self, elapsed: float) -> None:
        """Called a few times a second with the seconds since the start of the run."""


class Silent:
    """An observer that looks away."""

    def event(self, event: Event) -> None:
        """Nothing."""

    def progress(self, progress: Progress) -> None:
        """Nothing."""

    def tick(self, elapsed: float) -> None:
        """Nothing."""


class Clock:
    """Seconds since the start of the run, those of earlier sessions included."""

    def __init__(self, began: float | None = None, spent: float = 0.0) -> None:
        """`began`: wall-clock time (Unix seconds) at which this session began; now unless given."""
        late = 0.0 if began is None else max(0.0, time.time() - began)
        self._zero = time.monotonic() - late - spent

    def __call__(self) -> float:
        return time.monotonic() - self._zero


class Stop:
    """Whether somebody asked to stop: the first Ctrl-C or SIGTERM asks, the second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def __bool__(self) -> bool:
        return self.asked

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        """Handles SIGINT and SIGTERM inside; outside the main thread nothing is changed."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, self._handle)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def run_trials(
    planner: Planner,
    runner: Runner,
    run: Run,
    observer: Observer,
    clock: Callable[[], float],
    stop: Stop,
    occupancy: Occupancy | None = None,
) -> bool:
    """Runs trials until the planner has nothing more to start, the deadline passes, or `stop` is set.

    Every trial is an event when it starts and when it ends. Trials that outlive the deadline are cancelled. Where many slots
    want a trial, those in flight are looked after between questions, so that none waits to be told until all are answered.

    Args:
        occupancy: counts what the slots do.

    Returns:
        True when it ended by itself, False when it was stopped.
    """

    def tell(event: TrialStarted | TrialFinished | StageEnded) -> None:
        run.append(event)
        observer.event(event)

    counted = occupancy or Occupancy(clock)

    def finish(result: TrialResult) -> None:
        began = clock()
        planner.tell(result)
        counted.told(result.spec.id, clock() - began)
        tell(TrialFinished(at=time.time(), result=result))

    flying, stages = 0, list[str]()
    latest = planner.deadline * (1 + _OVERRUN)
    while not stop:
        round_began = clock()
        observer.tick(round_began)
        counted.round(runner.slots)
        idle, hurried = runner.idle(), False
        for place, slot in enumerate(idle):
            asked = clock()
            hurried = asked - round_began > _TICK
            if hurried:
                counted.thinking(len(idle) - place)
                break
            spec = planner.ask(asked)
            if spec is None:
                counted.nothing(len(idle) - place)
                break
            if spec.stage not in stages:
                if stages:
                    kept, dropped = planner.standing()
                    tell(StageEnded(at=time.time(), stage=stages[-1], kept=kept, dropped=dropped))
                stages.append(spec.stage)
            planner.start(spec)
            runner.submit(slot, spec)
            counted.answered(spec.id, asked)
            flying += 1
            tell(TrialStarted(at=time.time(), spec=spec, worker=slot))
        if not flying and runner.idle():
            return True
        for item in runner.wait(0.0 if hurried else max(0.01, min(_TICK, latest - clock()))):
            if isinstance(item, TrialResult):
                flying -= 1
                finish(item)
            else:
                observer.progress(item)
        if hopeless(planner.results):
            return True
        if clock() > latest:
            break
    for result in runner.cancel():
        finish(result)
    return not stop


def hopeless(results: list[TrialResult]) -> bool:
    """Whether the first trials of several optimizers all failed in the user's code: more of them would too."""
    counted = [r for r in results if r.outcome is not Outcome.CANCELLED]
    failed = all(r.outcome in (Outcome.ERROR, Outcome.EXITED) for r in counted)
    return failed and len({r.spec.optimizer for r in counted}) >= 3
