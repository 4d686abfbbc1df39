"""A place for one worker process: which state it is in, and what the end of its process means."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from enum import Enum, auto

from autoopt.errors import AutooptError, ClusterGone, WorkerError
from autoopt.hardware.cpu import total_memory
from autoopt.options import steps_of
from autoopt.records import Outcome, TrialResult, TrialSpec
from autoopt.trials.failures import death, oom_kills
from autoopt.trials.process import Process
from autoopt.trials.protocol import Advanced, Ended, Failed, Finished, Loaded, Run
from autoopt.trials.runner import Progress

_FIRST_STEP_FACTOR = 10
"""Before its first step a trial may take so many deadlines: compilation and the start of loaders are slow."""
_ABORT_SECONDS = 2.0
"""So long a hung worker has to write its stacks down."""


class State(Enum):
    DOWN = auto()
    LOADING = auto()
    IDLE = auto()
    BUSY = auto()
    ENDING = auto()
    LOST = auto()


class Slot:
    """Owns a process at a time. All methods return at once; `Pool` calls them as replies and time go by.

    Args:
        start: starts a process for this slot.
        load_seconds: so long loading may take.
        max_deaths: so many failed loads in a row make the slot LOST.
    """

    def __init__(
        self, index: int, start: Callable[[], Process], load_seconds: float, max_deaths: int
    ) -> None:
        self.index = index
        self.state = State.DOWN
        self.process: Process | None = None
        self.spec: TrialSpec | None = None
        self.error: AutooptError | None = None
        """Why loading failed the last time."""
        self.loaded: Loaded | None = None
        """The answer to the first load, once it is there."""
        self._start = start
        self._load_seconds = load_seconds
        self._max_deaths = max_deaths
        self._deaths = 0
        self._retired = False
        self._step = 0
        self._begin = self._sign = 0.0
        self._oom_kills: int | None = None
        self._verdict: tuple[Outcome, str] | None = None
        self._kill_at: float | None = None

    def revive(self) -> Process | None:
        """Starts a process where there is none; returns it."""
        if self.state is not State.DOWN:
            return None
        if self._deaths >= self._max_deaths:
            self.state = State.LOST
            return None
        self.error = None
        self._oom_kills = oom_kills()
        try:
            self.process = self._start()
        except OSError as error:
            self._deaths += 1
            self.error = WorkerError(
                f"A worker could not be started: {error}.", "Free memory or disk space, or use fewer workers."
            )
            return None
        self._enter(State.LOADING)
        return self.process

    def run(self, spec: TrialSpec) -> None:
        """Starts a trial.

        Raises: ValueError when the slot is not idle.
        """
        if self.state is not State.IDLE or self.process is None:
            raise ValueError(f"slot {self.index} is {self.state.name.lower()}, not idle")
        self.spec, self._step = spec, 0
        self._deaths = self._deaths if self._retired else 0
        self._oom_kills = oom_kills()
        self._enter(State.BUSY)
        self.process.mark()
        self.process.send(Run(spec=spec))

    def end(self, outcome: Outcome, message: str) -> None:
        """Kills the process; a trial in flight gets this outcome."""
        self._verdict = (outcome, message)
        self._leave()

    def lose(self) -> None:
        """Gives up: no process any more, and no other one."""
        self.process = self.spec = None
        self.state = State.LOST

    def retire(self) -> None:
        """No other process after this one."""
        self._retired, self._deaths = True, self._max_deaths
        if self.state is State.DOWN:
            self.state = State.LOST

    def take(self, reply: Loaded | Failed | Advanced | Finished | Ended) -> Progress | TrialResult | None:
        """Takes in a reply of the process; returns what it means for the trial, if anything."""
        match reply:
            case Loaded():
                self.loaded = self.loaded or reply
                self._enter(State.IDLE)
            case Failed():
                self.error = reply.exception()
                self._leave()
            case Advanced() if self.state is State.BUSY:
                self._step, self._sign = reply.step, time.monotonic()
                return Progress(self.index, reply.trial, reply.step, reply.steps, reply.loss)
            case Finished() if self.spec is not None:
                self.spec = None
                if reply.result.outcome is Outcome.OUT_OF_MEMORY or reply.leaves:
                    self._leave()  # nobody knows what still holds memory in there, or what waits for what
                elif self.state is State.BUSY:
                    self._enter(State.IDLE)
                return reply.result
            case Ended():
                return self._ended(reply)
        return None

    def check(self) -> None:
        """Ends what has passed its deadline. Call it after the replies that are there have been taken in."""
        now = time.monotonic()
        if self._kill_at is not None and now > self._kill_at:
            self._leave()
        if self.state is State.LOADING and now - self._begin > self._load_seconds:
            self.error = WorkerError(
                f"Loading took longer than {self._load_seconds:.0f} s and was stopped.",
                self._with_log("See what your file does at import and in build_model()"),
            )
            self.end(Outcome.HUNG, "")
        if self.state is State.BUSY and self.spec is not None and self.process is not None:
            allowed = self.spec.hang_seconds * (1 if self._step else _FIRST_STEP_FACTOR)
            if now - self._sign > allowed:
                self._verdict = (Outcome.HUNG, f"no sign of life for {allowed:g} s, {self._last_sign()}")
                self.state = State.ENDING
                self._kill_at = now + _ABORT_SECONDS
                self.process.show_and_die()

    def _leave(self) -> None:
        self.state = State.ENDING
        if self.process is not None:
            self.process.kill()

    def _enter(self, state: State) -> None:
        self.state = state
        self._begin = self._sign = time.monotonic()
        self._verdict = self._kill_at = None

    def _ended(self, reply: Ended) -> TrialResult | None:
        spec, result = self.spec, None
        if self.error is not None:
            self._deaths += 1
        elif self.state in (State.LOADING, State.IDLE):
            self._deaths += 1
            doing = "while it loaded" if self.state is State.LOADING else "between trials"
            kind = ClusterGone if reply.lost else WorkerError
            self.error = kind(
                f"A worker process died {doing}: {self._cause(reply)[1]}.",
                self._with_log("Run your file alone to see why"),
            )
        elif spec is not None:
            outcome, message = self._verdict or self._cause(reply)
            result = TrialResult(
                spec=spec,
                outcome=outcome,
                message=message if outcome is Outcome.CANCELLED else self._with_log(message),
                steps_done=self._step,
                seconds={"total": time.monotonic() - self._begin},
                worker=self.index,
                lost=reply.lost if self._verdict is None else "",
            )
        if self.process is not None:
            self.process.reap(_ABORT_SECONDS)
        self.process = self.spec = None
        self._enter(State.DOWN)
        return result

    def _cause(self, reply: Ended) -> tuple[Outcome, str]:
        if reply.lost:
            return Outcome.CRASHED, f"the worker's machine was lost ({reply.lost}), {self._last_sign()}"
        how = death(reply.code, reply.signal)
        if reply.rank is not None:
            how = f"rank {reply.rank} was {how}" if reply.signal is not None else f"rank {reply.rank} {how}"
        if self.spec is not None:
            how += f", {self._last_sign()}"
        if reply.code is not None:
            return Outcome.EXITED, how
        if reply.signal == signal.SIGKILL:
            kills = oom_kills()
            if kills is not None and self._oom_kills is not None and kills > self._oom_kills:
                limit = f"{total_memory() / 2**30:.1f} GiB"
                return Outcome.OUT_OF_MEMORY, f"{how}: the kernel ran out of memory ({limit} in all)"
            return Outcome.CRASHED, f"{how}, possibly for lack of memory"
        return Outcome.CRASHED, how

    def _last_sign(self) -> str:
        # Progress is throttled: the trial may have been some steps further.
        steps = f" of {steps_of(self.spec.hyper, self.spec.steps)}" if self.spec is not None else ""
        return (
            f"last heard of at step {self._step}{steps}" if self._step else "before its first step was done"
        )

    def _with_log(self, message: str) -> str:
        tail = self.process.tail() if self.process is not None else ""
        return f"{message}; the end of its log:\n{tail}" if tail else message
