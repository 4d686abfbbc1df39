"""An optimizer as it is handed on: with everything needed to build it for the real run."""

from __future__ import annotations

from typing import Any

from autoopt import options
from autoopt.optim.spec import Need, OptimSpec
from autoopt.recommend.evidence import Evidence
from autoopt.records import BASELINE, Choice, EffectiveBatch, Hyper, Settings
from autoopt.schedule import warmup_steps
from autoopt.tuning import options as offered


def handed_on(
    e: Evidence, name: str, hyper: Hyper, rates: tuple[float, float] | None, *, tuned: bool
) -> Choice:
    """A configuration at the real run's length.

    Args:
        e: the evidence.
        name: of the optimizer, or BASELINE.
        hyper: its settings; none stand for those that the user's own has.
        rates: log10 of the lowest and the highest learning rate that are as good; `None`: not known.
        tuned: whether trials chose it.
    """
    settings, base = options.applied(hyper, e.report.settings), e.report.baseline
    around = None
    if rates is not None and "lr" in hyper:
        low, high = min(10 ** rates[0], hyper["lr"]), max(10 ** rates[1], hyper["lr"])
        around = (float(f"{low:.2g}"), float(f"{high:.2g}"))
    spec = e.specs.get(name)
    # What goes on in mid-run has the rest of its own schedule, and is warm.
    goes_on = name == BASELINE and e.report.checkpoint is not None
    if spec is not None:
        class_, arguments = spec.target, spec.arguments(options.own(hyper))
    else:
        own = e.specs.get(base.registry_name or "")
        hyper = hyper or dict(base.hyper)
        class_, arguments = (own.target, _of_theirs(own, hyper)) if own else (base.optimizer, dict(hyper))
    return Choice(
        optimizer=name,
        class_=class_,
        arguments={k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()},
        hyper=hyper,
        lr_interval=around,
        groups=e.report.groups,
        no_decay=list(e.policy.no_decay),
        schedule="constant"
        if spec and Need.OWN_SCHEDULE in spec.needs
        else "yours"
        if goes_on
        else settings.schedule,
        warmup_steps=0 if goes_on else warmup_steps(settings.warmup, settings.steps),
        steps=settings.steps,
        tuned=tuned,
        effective_batch=_effective(e, settings),
    )


def _of_theirs(spec: OptimSpec, hyper: Hyper) -> dict[str, Any]:
    """Arguments of the user's own optimizer, of a class that we have: what they set, without what we would set."""
    known = spec.arguments(hyper)
    return {k: v for k, v in known.items() if k in hyper or (k == "betas" and "beta1" in hyper)}


def _effective(e: Evidence, settings: Settings) -> EffectiveBatch:
    """For how many samples a step the rate holds."""
    each, ranks = e.report.samples_per_batch, settings.ranks
    return EffectiveBatch(
        samples=None if each is None else each * settings.accumulate,
        samples_per_batch=each,
        accumulate=settings.accumulate // ranks,
        ranks=ranks,
    )


def beside(e: Evidence, hyper: Hyper) -> str:
    """What it changes beside the optimizer."""
    said = offered.words(hyper, e.report.settings)
    return f" It trains with {said}." if said else ""
