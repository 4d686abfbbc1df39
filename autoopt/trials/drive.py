"""Drives one trial to its result, whatever the user's code does: shared by worker and in-process runner."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import replace

from autoopt.options import steps_of
from autoopt.records import Outcome, Shortage, TrialResult, TrialSpec
from autoopt.trials.engine import Engine, Explains
from autoopt.trials.failures import outcome_of
from autoopt.trials.runner import Progress
from autoopt.trials.shortage import sentence


def drive(
    engine: Engine,
    spec: TrialSpec,
    slot: int,
    cancelled: Callable[[], bool] = lambda: False,
    *,
    on_error: Callable[[BaseException], None] = lambda _error: None,
    interrupts_pass: bool = False,
) -> Generator[Progress | TrialResult, None, None]:
    """Every step of the trial as a Progress, then exactly one TrialResult with its `worker` set.

    Args:
        cancelled: asked after each step; the trial ends as CANCELLED once it says yes.
        on_error: told of the exception that ended the trial, e.g. to log its traceback.
        interrupts_pass: let KeyboardInterrupt through, where it is the user at the terminal.
    """
    step, started = 0, time.monotonic()

    def ended(outcome: Outcome, message: str) -> TrialResult:
        seconds = {"total": time.monotonic() - started}
        return TrialResult(
            spec=spec, outcome=outcome, message=message, steps_done=step, seconds=seconds, worker=slot
        )

    result: TrialResult | None = None
    short: Shortage | None = None
    try:
        items = engine.execute(spec)
        for item in items:
            if isinstance(item, TrialResult):
                result = item.model_copy(update={"worker": slot})
                break
            step = item.step
            loss = item.loss if item.loss is not None and math.isfinite(item.loss) else None
            yield replace(item, worker=slot, loss=loss)
            if cancelled():
                result = ended(
                    Outcome.CANCELLED, f"cancelled after step {step} of {steps_of(spec.hyper, spec.steps)}"
                )
                break
        if isinstance(items, Generator):
            items.close()  # now, so that what the user's code cleans up belongs to this trial
    except GeneratorExit:
        raise
    except BaseException as error:
        # BaseException: sys.exit in the user's code ends the trial and not the worker.
        if interrupts_pass and isinstance(error, KeyboardInterrupt):
            raise
        on_error(error)
        result = ended(*outcome_of(error))
        if result.outcome is Outcome.OUT_OF_MEMORY and isinstance(engine, Explains):
            short = engine.short(result.message)  # now: what is free is soon another number
    # Outside the handler, whose traceback holds on to the tensors of the failed trial.
    if result is not None and short is not None:
        short = engine.smaller(spec, step, short) if isinstance(engine, Explains) else short
        result = result.model_copy(update={"shortage": short, "message": sentence(short)})
    yield result or ended(Outcome.ERROR, "the trial ended without a result")


class Throttle:
    """Lets the first event through, then at most `rate` a second."""

    def __init__(self, rate: float = 4.0) -> None:
        self._gap = 1 / rate
        self._next = -math.inf

    def ready(self) -> bool:
        """Whether this event may pass now."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._gap
        return True
