"""Numbers as people read them: four digits, a unit, a dash for what is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autoopt.options import BATCH, multiple, steps_of
from autoopt.records import BASELINE, Band, Expected, Recommendation, Row, TrialSpec

UNKNOWN = "-"


def number(value: float | None, digits: int = 4) -> str:
    """`digits` significant digits, without an exponent where that stays short.

    >>> number(0.118412), number(63366.3), number(None), number(2.4e-6)
    ('0.1184', '63366', '-', '2.4e-06')
    """
    if value is None:
        return UNKNOWN
    if 1000 <= abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def scaled(value: float | None, unit: str = "") -> str:
    """With a decimal prefix.

    >>> scaled(63366.3, "/s"), scaled(142928, "B"), scaled(12, "B")
    ('63.4 k/s', '143 kB', '12 B')
    """
    if value is None:
        return UNKNOWN
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()


def duration(value: float | None) -> str:
    """Seconds in the unit that fits.

    >>> duration(0.00101), duration(58.7), duration(150), duration(7300)
    ('1.01 ms', '58.7 s', '2 min 30 s', '2 h 2 min')
    """
    if value is None:
        return UNKNOWN
    if value < 1:
        return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} us"
    if value < 100:
        return f"{value:.3g} s"
    if value < 6000:
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def interval(expected: Expected | None) -> str:
    """Loss with its interval.

    >>> interval(None)
    '-'
    """
    if expected is None or expected.loss is None:
        return UNKNOWN
    if expected.low is None or expected.high is None:
        return number(expected.loss)
    return f"{number(expected.loss)} [{number(expected.low, 3)}, {number(expected.high, 3)}]"


def spread(expected: Expected | None) -> str:
    """Loss with half the width of its interval: `interval` for narrow places."""
    if expected is None or expected.loss is None or expected.low is None or expected.high is None:
        return interval(expected)
    return f"{number(expected.loss)} ±{number((expected.high - expected.low) / 2, 2)}"


def promised(bands: Sequence[Band]) -> str:
    """The bands of a run in one line.

    >>> promised([Band(of="training loss", share=0.01, begin=0, step=10, low=2.1, high=2.3)])
    'training loss [2.1, 2.3] at 1 %'
    """
    kinds = dict.fromkeys(band.of for band in bands)
    return "; ".join(
        f"{kind} "
        + ", ".join(
            f"[{number(b.low, 3)}, {number(b.high, 3)}] at {100 * b.share:g} %" for b in bands if b.of == kind
        )
        for kind in kinds
    )


def name_of(optimizer: str, rec: Recommendation) -> str:
    """An optimizer's name in tables; the baseline by what it is."""
    if optimizer != BASELINE:
        return optimizer
    return "yours" if rec.workload.baseline.source == "configure_optimizers" else "default"


def rate_of(row: Row, rec: Recommendation) -> float | None:
    """A row's learning rate; the baseline's own where no trial changed it."""
    own = rec.workload.baseline.hyper if row.optimizer == BASELINE else {}
    return row.hyper.get("lr", own.get("lr"))


def steps(spec: TrialSpec) -> str:
    """The optimizer steps of a trial, and its batch where it is not the run's own.

    >>> steps(TrialSpec(id=1, stage="race 1", optimizer="sgd", hyper={"lr": 1, "batch": 2}, steps=100, seed=0))
    '50 of 2 x the batch'
    """
    taken = str(steps_of(spec.hyper, spec.steps))
    return f"{taken} of {spec.hyper[BATCH]:g} x the batch" if BATCH in spec.hyper else taken


def pace(row: Row) -> float | None:
    """Seconds for as many samples as a step of the run's own batch sees, so that rows can be compared."""
    seconds = row.expected.step_seconds if row.expected is not None else None
    return None if seconds is None else seconds / multiple(row.hyper)


def times_batch(row: Row) -> str:
    """What marks a row that trains with another batch than the run's own."""
    return f" {row.hyper[BATCH]:g}x" if BATCH in row.hyper else ""


def other_batches(rec: Recommendation) -> str:
    """What to know of the table where a row trains with another batch; else empty."""
    if not any(BATCH in row.hyper for row in rec.optimizers):
        return ""
    return "2x, 4x ...: a step sees so many times as many samples as yours; its time is told for as many as yours"


def length_of(rec: Recommendation) -> str:
    """After how many steps the table's losses were measured, where that is not the real run; else empty."""
    measured, real = rec.expected.steps, rec.settings.steps
    if measured in (0, real):
        return ""
    return f"losses are those after {measured} of the real run's {real} steps, where no other number is given"


def measured(rec: Recommendation) -> list[Row]:
    """The rows that a table has something to say of: why others were not tried is told below it."""
    return [
        row
        for row in rec.optimizers
        if row.optimizer not in rec.cut and (row.expected or (row.trials and row.status != "not tried"))
    ]


def untried(rec: Recommendation) -> dict[str, str]:
    """Of all other optimizers, why there is nothing to say of them."""
    shown = {row.optimizer for row in measured(rec)}
    late = {r.optimizer: r.reason for r in rec.optimizers if r.optimizer not in shown and r.reason}
    return late | dict(rec.cut)


def by_reason(reasons: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Names that share a reason, together.

    >>> by_reason({"a": "late", "b": "big", "c": "late"})
    [('late', ['a', 'c']), ('big', ['b'])]
    """
    grouped: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        grouped.setdefault(reason, []).append(name)
    return list(grouped.items())


def ledger(spent: Mapping[str, float]) -> str:
    """Where the time went, the largest share first.

    >>> ledger({"train": 88.1, "idle": 9.5, "wall": 58.7})
    '58.7 s start to end; summed over workers: train 88.1 s, idle 9.5 s'
    """
    parts = sorted(((v, k) for k, v in spent.items() if k != "wall" and v >= 0.05), reverse=True)
    shown = ", ".join(f"{name} {duration(value)}" for value, name in parts)
    return f"{duration(spent.get('wall'))} start to end" + (
        f"; summed over workers: {shown}" if shown else ""
    )


def command(rec: Recommendation, script: str) -> str:
    """How train.py is started: by as many processes as a trial had."""
    ranks = rec.workload.processes
    return f"torchrun --nproc-per-node {ranks} {script}" if ranks > 1 else f"python {script}"
