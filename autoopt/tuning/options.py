"""Clipping, warm-up and batch of a run's configurations: where they begin, and what else is tried.

A network needs clipping where single batches have gradients many times as large as the usual one's: they throw the
weights back, and with Adam they spoil the second moments for long. That is seen before the first trial, in the gradients of
the calibration's batches. What it is worth, and what cannot be seen there, is measured in benchmarks/RESULTS.md
("Clipping"). The norm follows from the usual gradient, as Pascanu 2013 (arXiv 1211.5063, section 3.2) has it.

Batches are compared at equal samples: with m times as many batches a step, a trial takes m times fewer steps. The rate
that is best moves with the batch (`autoopt.batch`): each is tried at the leading configuration's rate and at the scaled one.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoopt import batch
from autoopt.optim.spec import Need, OptimSpec
from autoopt.options import BATCH, CLIP, WARMUP, applied, multiple, steps_of
from autoopt.policy_options import Tune
from autoopt.records import Hyper, Settings, WorkloadReport

SPIKE = 4.0
"""Largest gradient over the median one, from which on clipping is needed: networks that need none had up to 2.8, and at 5.3
it lowered AdamW's loss to a fortieth (benchmarks/RESULTS.md)."""
FEWEST = 5
"""Gradients without which nothing is said of the largest."""
FEWEST_STEPS = 30
"""Optimizer steps that a larger batch has to leave of the real run: in fewer there is no schedule to speak of."""


@dataclass(frozen=True)
class Options:
    """What a policy makes of clipping, warm-up and batch on a workload.

    Args:
        start: what every configuration begins with where it is not the real run's own setting.
        ladders: option -> the values that are tried, the one that every configuration begins with first.
        notes: what the user should know.
    """

    start: Hyper
    ladders: dict[str, tuple[float, ...]]
    notes: list[str]


def of(tune: Tune, report: WorkloadReport) -> Options:
    """What is done about clipping, warm-up and batch."""
    settings, start, ladders, notes = report.settings, dict[str, float](), dict[str, tuple[float, ...]](), []
    if tune.clip == "auto":
        spikes = spiking(report.gradient_norms)
        # CLIP = None in the user's file is a decision too.
        if spikes is not None and settings.origins.get("clip", "default") == "default":
            start[CLIP] = norm_for(report.gradient_norms)
            notes.append(
                f"gradients are clipped to a norm of {start[CLIP]:g} in all trials but the baseline's: of the first "
                f"{len(report.gradient_norms)} batches one has a gradient {spikes:.0f} times the usual one; CLIP = "
                "None in your file, or `tune: {clip: off}` in a policy, leaves them as they are"
            )
    elif tune.clip != "off":
        ladders[CLIP] = _ladder(settings.clip or 0.0, tune.clip)
    if tune.warmup != "off":
        if settings.schedule == "yours":
            notes.append("warm-up is part of your own schedule, so no other one was tried")
        else:
            ladders[WARMUP] = _ladder(settings.warmup, tune.warmup)
    if tune.batch_size != "off":
        why = {m: _impossible(m, settings) for m in tune.batch_size}
        notes += [f"{m:g} times the batch was not tried: {reason}" for m, reason in why.items() if reason]
        ladders[BATCH] = _ladder(1.0, [m for m, reason in why.items() if not reason])
    return Options(start, {name: ladder for name, ladder in ladders.items() if len(ladder) > 1}, notes)


def spiking(norms: Sequence[float]) -> float | None:
    """How many times the median the largest gradient is, where that is a spike; else `None`.

    >>> spiking([1.0, 1.1, 0.9, 1.0, 30.0]), spiking([1.0, 1.1, 0.9, 1.0, 3.0])
    (30.0, None)
    """
    usual = statistics.median(norms) if len(norms) >= FEWEST else 0.0
    if not usual or max(norms) < SPIKE * usual:
        return None
    return max(norms) / usual


def norm_for(norms: Sequence[float]) -> float:
    """The norm to clip at: the median one in two digits.

    >>> norm_for([1.23, 1.21, 30.0])
    1.2
    """
    return float(f"{statistics.median(norms):.2g}")


def place(value: float | None, ladder: Sequence[float], name: str) -> int:
    """Steps of the ladder between a value and the one that everything begins with; `None`: that one.

    No clipping, 0, stands above all norms.

    >>> place(5.0, (0.0, 0.5, 5.0), "clip"), place(None, (0.0, 0.5, 5.0), "clip")
    (-1, 0)
    """

    def height(of: float) -> float:
        return float("inf") if name == CLIP and of == 0 else of

    begin = height(ladder[0])
    at = begin if value is None else height(value)
    return sum(height(v) < at for v in ladder) - sum(height(v) < begin for v in ladder)


def others(ladders: Mapping[str, tuple[float, ...]], hyper: Hyper, start: Hyper) -> list[Hyper]:
    """A configuration with one option moved, for each value that it does not have."""
    found = []
    for name, ladder in ladders.items():
        rest = {k: v for k, v in hyper.items() if k != name}
        for value in ladder:
            if value != hyper.get(name, ladder[0]):
                # The real run's own setting is told by leaving the name out, so that a configuration has one key.
                found.append(rest if value == ladder[0] and name not in start else {**rest, name: value})
    return found


def ladders_of(spec: OptimSpec, ladders: Mapping[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
    """What an optimizer can be tried with.

    A second-order one differentiates all batches of a step as one graph, so its memory grows with them: it gets no more.
    """
    found = dict(ladders)
    if Need.SECOND_ORDER in spec.needs and BATCH in found:
        found[BATCH] = tuple(m for m in found[BATCH] if m <= 1)
    return {name: ladder for name, ladder in found.items() if len(ladder) > 1}


def scaled_rates(ladders: Mapping[str, tuple[float, ...]], optimizer: str, hyper: Hyper) -> list[Hyper]:
    """A configuration at each other batch, with the rate that goes with it; none where the rate does not change.

    The run's own batch is not among them: the rates that are tried with it are what all of this begins from.
    """
    now, found = multiple(hyper), list[Hyper]()
    for value in ladders.get(BATCH, ()):
        rate = batch.scaled(hyper["lr"], optimizer, value / now)
        if value not in (now, 1.0) and rate != hyper["lr"]:
            found.append({**hyper, BATCH: value, "lr": rate})
    return found


def words(hyper: Hyper, settings: Settings) -> str:
    """How a configuration differs from the real run's settings; empty where it does not.

    >>> words({"lr": 0.1, "clip": 1.0, "warmup": 0.1}, Settings())
    'gradients clipped to a norm of 1, a warm-up of 10 % of the run instead of 5 %'
    """
    said = []
    if CLIP in hyper:
        before = "" if settings.clip is None else f" instead of {settings.clip:g}"
        said.append(
            f"gradients clipped to a norm of {hyper[CLIP]:g}{before}"
            if hyper[CLIP]
            else "gradients not clipped"
        )
    if WARMUP in hyper:
        said.append(
            f"a warm-up of {100 * hyper[WARMUP]:g} % of the run instead of {100 * settings.warmup:g} %"
        )
    if BATCH in hyper:
        mine = applied(hyper, settings)
        said.append(
            f"{hyper[BATCH]:g} times as many samples a step ({mine.accumulate} batches accumulated instead of "
            f"{settings.accumulate}), and so {mine.steps} steps instead of {settings.steps}"
        )
    return ", ".join(said)


def _ladder(own: float, values: Sequence[float]) -> tuple[float, ...]:
    return (own, *(v for v in values if v != own))


def _impossible(m: float, settings: Settings) -> str:
    """Why a multiple of the batch cannot be had; empty where it can."""
    batches = m * settings.accumulate
    if not (batches / settings.ranks).is_integer():
        each = f" in each of {settings.ranks} processes" if settings.ranks > 1 else ""
        count = settings.accumulate // settings.ranks
        return f"a step takes {count} batch{'es' if count > 1 else ''}{each}, which cannot be divided so"
    left = steps_of({BATCH: m}, settings.steps)
    return f"it leaves {left} of {settings.steps} steps" if left < FEWEST_STEPS and m > 1 else ""
