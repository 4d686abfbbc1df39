"""One trial on a loaded workload: from initial weights through its own whole schedule to a score."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch

from autoopt import options
from autoopt.memory.meter import TrialMemory
from autoopt.optim import build, groups, registry
from autoopt.optim.period import period
from autoopt.optim.spec import Need
from autoopt.records import BASELINE, Outcome, Settings, Speed, TrialResult, TrialSpec
from autoopt.schedule import multiplier, warmup_steps
from autoopt.timing import Stopwatch, compiled_seconds
from autoopt.training import StepReport, autocast, set_mode, train
from autoopt.trials import lightning
from autoopt.trials.runner import Progress
from autoopt.trials.speed import summarise, warm_from
from autoopt.workload import Workload
from autoopt.workload.data import digest, samples
from autoopt.workload.frozen import look

_CURVE_POINTS = 100
_BLOWN_UP = 100.0
"""A loss that stays so many times above the first one for `_PATIENCE` steps is not coming back."""
_PATIENCE = 20


def execute(workload: Workload, spec: TrialSpec) -> Iterator[Progress | TrialResult]:
    """Runs `spec`, yielding progress after each step and the result last.

    Divergence is a result. What the user's code or the machine raises goes up to the caller, who knows which
    process it is in. A LightningModule is trained by its Trainer.
    """
    try:
        yield from _execute(workload, spec)
    finally:
        workload.finish()


def _execute(workload: Workload, spec: TrialSpec) -> Iterator[Progress | TrialResult]:
    begin = time.perf_counter()
    settings = options.applied(spec.hyper, workload.settings)
    steps = options.steps_of(spec.hyper, spec.steps)
    memory = TrialMemory(workload.device, steps)
    model = workload.start(spec.seed, steps, real_steps=settings.steps)
    optimizer, rate = _build(workload, model, spec, settings, steps)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]  # whatever a scheduler of the user's has left there
    built = time.perf_counter()
    batches = _Watched(workload.batches(spec.seed))
    record = _Record()
    memory.of(model, optimizer)
    watch = Stopwatch(workload.device, warm_from(steps), period(optimizer))
    compiled = compiled_seconds()
    course = (train if workload.contract.lightning is None else lightning.train)(
        model,
        workload,
        optimizer,
        batches,
        steps=steps,
        multiplier=rate,
        settings=settings,
        around=memory.around,
        stopwatch=watch,
    )
    for report in course:
        record.add(report)
        memory.stepped(report.step)
        yield Progress(worker=0, trial=spec.id, step=report.step, steps=steps, loss=_finite(report.loss))
        if record.diverged:
            course.close()  # now: Lightning's hooks of the end belong to this trial
            break
    speed = _speed(watch, record, batches.samples(settings.accumulate), compiled)
    trained = time.perf_counter()
    compiling = (speed.compile_seconds or 0.0) if speed else 0.0
    used = memory.used()
    loss, metric = (None, None) if record.diverged else _score(workload, model, optimizer, spec, record)
    end = time.perf_counter()
    step_seconds = speed.step.seconds if speed else record.step_seconds()
    data = sum(record.data)
    yield TrialResult(
        spec=spec,
        outcome=Outcome.DIVERGED if loss is None else Outcome.COMPLETED,
        message=record.message(),
        loss=loss,
        metric=metric,
        steps_done=len(record.losses),
        curve=record.curve(),
        seconds={
            "build": built - begin,
            "data": data,
            "train": max(0.0, trained - built - data - batches.hashing - compiling),
            "compile": compiling,
            "evaluate": end - trained,
            "total": end - begin,
        },
        step_seconds=step_seconds,
        samples_per_second=speed.samples_per_second if speed else None,
        speed=speed,
        state_bytes=build.state_bytes(optimizer),
        peak_bytes=used.peak,
        peak_source=used.source,
        reserved_bytes=used.reserved,
        reserved_begin_bytes=used.reserved_begin,
        process_bytes=used.process,
        digests=batches.digests,
        frozen=unchanged.digest if (unchanged := look(model)) is not None else "",
    )


def _build(
    workload: Workload, model: torch.nn.Module, spec: TrialSpec, settings: Settings, steps: int
) -> tuple[torch.optim.Optimizer, Any]:
    """The optimizer of a trial and its schedule: step (from 0) -> multiple of the base rate."""
    keep = spec.optimizer == BASELINE
    user = workload.keep(model) if keep else workload.baseline(model)
    warm = warmup_steps(settings.warmup, steps)
    # In mid-run their own one goes on with the rest of its schedule, and all others begin a new one.
    kind = "yours" if keep and workload.checkpoint is not None else settings.schedule
    if spec.optimizer == BASELINE:
        optimizer = user.optimizer
        if "lr" in spec.hyper:
            factor = spec.hyper["lr"] / user.hyper["lr"]
            for group in optimizer.param_groups:
                group["lr"] *= factor
    else:
        known = registry.get(spec.optimizer)
        split = groups.split(
            model, no_decay=tuple(spec.no_decay), user=user.optimizer if user.given else None
        )
        optimizer = build.build(known, split, options.own(spec.hyper))
        if Need.OWN_SCHEDULE in known.needs:
            return optimizer, lambda step: multiplier("constant", step, steps, warm)
    if kind == "yours":
        shape = user.schedule
        if shape is not None:
            return optimizer, lambda step: shape(step / steps)
        kind = "cosine"
    return optimizer, lambda step: multiplier(kind, step, steps, warm)


def _score(
    workload: Workload,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    spec: TrialSpec,
    record: _Record,
) -> tuple[float | None, float | None]:
    """Validation loss and metric after training; without held-out data the losses of batches not yet trained on."""
    if workload.validation == "prequential":
        tail = record.losses[-max(1, len(record.losses) // 10) :]
        found = statistics.fmean(tail)
        set_mode(optimizer, training=False)
        return _finite(found), _finite(workload.metric_alone(model, found))
    set_mode(optimizer, training=False)
    with autocast(workload.device, workload.settings.precision):
        score = workload.evaluate(model, spec.eval_batches)
    return _finite(score.loss), _finite(score.metric)


def _speed(
    watch: Stopwatch, record: _Record, samples: float | None, compiled_before: float | None
) -> Speed | None:
    """Where the time of the steps went."""
    compiled = compiled_seconds()
    return summarise(
        watch.laps(),
        clock="device" if watch.on_device else "host",
        period=watch.period,
        warmup_steps=min(watch.first, len(record.compute)),
        warmup_seconds=sum(record.compute[: watch.first]),
        compile_seconds=None if compiled is None or compiled_before is None else compiled - compiled_before,
        samples=samples,
    )


class _Watched:
    """Batches as they pass: counted, and hashed at steps 1, 2, 4, 8, ... to prove that trials are paired."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches
        self._count = 0
        self._samples: list[int] = []
        self.digests: list[str] = []
        self.hashing = 0.0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        batch = next(self._batches)
        self._count += 1
        if self._count & (self._count - 1) == 0:
            begin = time.perf_counter()
            self.digests.append(digest(batch))
            count = samples(batch)
            if count:
                self._samples.append(count)
            self.hashing += time.perf_counter() - begin
        return batch

    def samples(self, accumulate: int) -> float | None:
        """Of an optimizer step, as the median of the batches that were looked at; `None` where they hold no tensor."""
        return statistics.median(self._samples) * accumulate if self._samples else None


class _Record:
    """Losses and times of the steps so far."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.compute: list[float] = []
        self.data: list[float] = []
        self._high = 0

    def add(self, report: StepReport) -> None:
        self.losses.append(report.loss)
        self.compute.append(report.seconds)
        self.data.append(report.data_seconds)
        blown = self.losses[0] > 0 and report.loss > _BLOWN_UP * self.losses[0]
        self._high = self._high + 1 if blown else 0

    @property
    def diverged(self) -> bool:
        return not math.isfinite(self.losses[-1]) or self._high >= _PATIENCE

    def message(self) -> str:
        if not self.diverged:
            return ""
        kind = "above 100 times the first one" if self._high else "not finite"
        return f"the training loss was {kind} at step {len(self.losses)}"

    def step_seconds(self) -> float | None:
        return statistics.median(self.compute[warm_from(len(self.compute)) :]) if self.compute else None

    def curve(self) -> list[tuple[int, float]]:
        """At most about a hundred points, each the mean training loss of the steps since the last one."""
        width = max(1, math.ceil(len(self.losses) / _CURVE_POINTS))
        points = []
        for start in range(0, len(self.losses), width):
            chunk = self.losses[start : start + width]
            value = statistics.fmean(chunk)
            if math.isfinite(value):
                points.append((start + len(chunk), value))
        return points


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
