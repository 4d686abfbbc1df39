"""The engine for a training loop of the user's own: it runs in turns with ours, a turn from report to report."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

from autoopt.memory.meter import TrialMemory
from autoopt.optim import build
from autoopt.records import Outcome, Shortage, TrialResult, TrialSpec, WorkloadReport
from autoopt.trials.runner import Progress
from autoopt.trials.shortage import shortage_of
from autoopt.trials.turns import in_turns
from autoopt.workload.maker import Told
from autoopt.workload.own_loop import OwnLoop

_CURVE_POINTS = 100
_BLOWN_UP = 100.0
"""As in our own loop: a loss so many times above the first one for `_PATIENCE` steps is not coming back."""
_PATIENCE = 20


class LoopEngine:
    """Loads nothing more, and lets the user's `run` make each trial.

    Args:
        loop: the user's.
    """

    def __init__(self, loop: OwnLoop) -> None:
        self._loop = loop

    def load(self, *, full: bool) -> WorkloadReport | None:
        """Raises: WorkloadError when `run` does not do what the contract says."""
        return self._loop.report() if full else None

    def execute(self, spec: TrialSpec) -> Iterator[Progress | TrialResult]:
        """Every report as a Progress, then the result."""
        loop, begin = self._loop, time.perf_counter()
        memory = TrialMemory(loop.device, spec.steps)
        record, returned = _Record(by_loss=loop.by_loss), list[float]()
        maker = loop.maker(spec.optimizer, spec.hyper, spec.steps, seed=spec.seed, no_decay=spec.no_decay)

        def work(give: Callable[[Told], None]) -> None:
            maker.tell = give
            returned.append(loop.train(maker, spec.seed))

        turns = in_turns(work)
        # Closed at the latest with this generator, so that a cancelled run of the user's cleans up at once.
        try:
            for told in turns:
                record.add(told)
                memory.stepped(len(record.told))
                loss = told.loss if math.isfinite(told.loss) else None
                yield Progress(worker=0, trial=spec.id, step=told.done, steps=spec.steps, loss=loss)
                if record.diverged:
                    break
        finally:
            turns.close()
        used = memory.used()
        value = returned[0] if returned and math.isfinite(returned[0]) else None
        total = time.perf_counter() - begin
        trained = sum(told.seconds for told in record.told)
        yield TrialResult(
            spec=spec,
            outcome=Outcome.DIVERGED if value is None else Outcome.COMPLETED,
            message=record.message() or ("" if value is not None else f"run() returned {returned[0]}"),
            loss=value if loop.by_loss else None,
            metric=None if loop.by_loss else value,
            steps_done=maker.done,
            curve=record.curve(),
            seconds={"train": trained, "evaluate": max(0.0, total - trained), "total": total},
            step_seconds=record.step_seconds(),
            state_bytes=sum(build.state_bytes(one.optimizer) for one in maker.made),
            peak_bytes=used.peak,
            peak_source=used.source,
            reserved_bytes=used.reserved,
            reserved_begin_bytes=used.reserved_begin,
            process_bytes=used.process,
        )

    def short(self, text: str) -> Shortage:
        """What was asked for and what is free."""
        from autoopt.memory.room import room

        free, total = room(self._loop.device)
        return shortage_of(text, str(self._loop.device), free, total)

    def smaller(self, spec: TrialSpec, step: int, shortage: Shortage) -> Shortage:  # noqa: ARG002
        """The same: the batch is the user's loop's, and no smaller one can be tried here."""
        return shortage

    def close(self) -> None:
        self._loop.close()


class _Record:
    """What was reported so far."""

    def __init__(self, *, by_loss: bool) -> None:
        self.told: list[Told] = []
        self._by_loss, self._high = by_loss, 0

    def add(self, told: Told) -> None:
        self.told.append(told)
        # What a loop reports beside another metric (the loss of a policy, of a generator) may well grow a hundredfold.
        blown = self._by_loss and self.told[0].loss > 0 and told.loss > _BLOWN_UP * self.told[0].loss
        self._high = self._high + 1 if blown else 0

    @property
    def diverged(self) -> bool:
        return not math.isfinite(self.told[-1].loss) or self._high >= _PATIENCE

    def message(self) -> str:
        if not self.told or not self.diverged:
            return ""
        kind = "above 100 times the first one" if self._high else "not finite"
        return f"the training loss was {kind} at step {self.told[-1].done}"

    def step_seconds(self) -> float | None:
        """Median over the reports, each spread over its steps; the first one, which also built the model, left out."""
        done = [0, *(told.done for told in self.told)]
        steps = [max(1, b - a) for a, b in pairwise(done)]
        each = [told.seconds / n for told, n in zip(self.told, steps, strict=True)]
        return statistics.median(each[1:] or each) if each else None

    def curve(self) -> list[tuple[int, float]]:
        """At most about a hundred points, each the mean loss of the reports since the last one."""
        width = max(1, math.ceil(len(self.told) / _CURVE_POINTS))
        points: list[tuple[int, float]] = []
        for start in range(0, len(self.told), width):
            chunk = self.told[start : start + width]
            value = statistics.fmean(told.loss for told in chunk)
            if math.isfinite(value):
                points.append((chunk[-1].done, value))
        return points
