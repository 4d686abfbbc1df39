"""What the real run's losses should be: 90 % bands at 1, 5, 10, 25 and 100 % of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from autoopt.options import multiple, steps_of
from autoopt.recommend.batches import in_steps_of
from autoopt.recommend.foresight import estimates, kinds
from autoopt.recommend.windows import CHECKPOINTS, of_run
from autoopt.records import Band, Hyper, TrialResult
from autoopt.tuning.score import Score


@dataclass(frozen=True)
class Promise:
    """The bands, in the order of the run, and what could not be said."""

    bands: list[Band]
    notes: list[str]


def promise(
    results: Iterable[TrialResult],
    optimizer: str,
    hyper: Hyper,
    total: int,
    score: Score,
    *,
    schedule: str = "cosine",
    warmup: float = 0.05,
) -> Promise:
    """Bands of the real run's losses.

    Args:
        results: all trials of a run; finished ones of this optimizer give centres, of any the spread.
        optimizer: registry name, or BASELINE.
        hyper: of the real run; trials with a learning rate near it count, with wider bands.
        total: steps of the real run with its own batch; bands are in the steps that it takes with `hyper`'s.
        score: gives the scale of a loss.
        schedule: kind of learning-rate schedule; "yours" is taken as constant until the end.
        warmup: share of a run that warms up.

    Returns:
        No band where the trials say nothing, because they are too short or none is near. A window shorter than a
        step of the real run is left out.
    """
    times = multiple(hyper)
    total = steps_of(hyper, total)
    told = [in_steps_of(r, times) for r in results]
    made = estimates(told, optimizer, hyper, total, score, schedule=schedule, warmup=warmup)
    # A metric is nothing that every step tells, and no band reaches below zero where no loss did.
    unit = replace(score, metric=None, positive=all(loss >= 0 for r in told for loss in _losses(r))).unit
    bands = [
        Band(
            of=e.of,
            share=e.share,
            begin=int(e.window.begin),
            step=int(e.window.end),
            low=unit(e.y - e.half),
            high=unit(e.y + e.half),
        )
        for e in made
    ]
    said = {(band.of, band.share) for band in bands}
    silent = [
        f"{kind} at {100 * share[1]:g} %"
        for share in CHECKPOINTS
        for kind in kinds(share)
        if of_run(share, total) is not None and (kind, share[1]) not in said
    ]
    why = f"too little was trained to promise the {', the '.join(silent)} of the real run"
    return Promise(bands, [why] if silent else [])


def _losses(result: TrialResult) -> list[float]:
    return [loss for _, loss in result.curve] + ([] if result.loss is None else [result.loss])
