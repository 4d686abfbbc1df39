"""Losses over seeds as a table, and whether two means differ by more than the seeds do."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field

T_95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 10: 2.23}
"""Two-sided 95 % quantile of Student's t by degrees of freedom."""


@dataclass(frozen=True)
class Arm:
    """One way to train an example: its final validation losses (and metrics) over the seeds."""

    note: str
    losses: list[float | None]
    """`None` where the run diverged."""
    metrics: list[float | None] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Mean over the seeds; infinite when one of them diverged."""
        return _mean(self.losses)

    @property
    def metric(self) -> float | None:
        return _mean(self.metrics) if self.metrics and None not in self.metrics else None

    def __str__(self) -> str:
        if not math.isfinite(self.loss):
            return f"diverged in {self.losses.count(None)} of {len(self.losses)}; {self.note}"
        spread = f" ± {_sd(self.losses):.2g}" if len(self.losses) > 1 else ""
        return f"{self.loss:.4g}{spread}; {self.note}"


@dataclass(frozen=True)
class Line:
    """One example: what autoopt reached, AdamW at 1e-3, AdamW tuned for as long as autoopt had."""

    example: str
    autoopt: Arm
    default: Arm
    tuned: Arm
    metric: tuple[str, str] | None
    profile_seconds: float
    tuned_seconds: float

    def verdict(self) -> str:
        """Both promises: not worse than AdamW at 1e-3, and within the seeds' noise of tuned AdamW."""
        return f"1e-3: {compare(self.autoopt, self.default)}; tuned: {compare(self.autoopt, self.tuned)}"


def compare(ours: Arm, theirs: Arm) -> str:
    """ "better", "worse", or "same": |difference of means| <= t_95 * its standard error (Welch, equal n).

    >>> compare(Arm("", [1.0, 1.1, 0.9]), Arm("", [2.0, 2.1, 1.9]))
    'better'
    >>> compare(Arm("", [1.0, 1.4, 0.6]), Arm("", [1.1, 1.5, 0.7]))
    'same'
    """
    if not (math.isfinite(ours.loss) and math.isfinite(theirs.loss)):
        return "same" if ours.loss == theirs.loss else "better" if ours.loss < theirs.loss else "worse"
    difference = ours.loss - theirs.loss
    if abs(difference) <= noise(ours, theirs):
        return "same"
    return "better" if difference < 0 else "worse"


def noise(ours: Arm, theirs: Arm) -> float:
    """Half width of the 95 % interval of the difference of the two means; infinite for single seeds."""
    n, m = len(ours.losses), len(theirs.losses)
    if min(n, m) < 2:
        return math.inf
    error = math.sqrt(_sd(ours.losses) ** 2 / n + _sd(theirs.losses) ** 2 / m)
    return T_95.get(n + m - 2, 2.1) * error


def markdown(lines: list[Line]) -> str:
    """The table of RESULTS.md."""
    head = (
        "| example | autoopt | AdamW at 1e-3 | AdamW tuned | autoopt against | metric | profile | tuning |",
        "|---|---|---|---|---|---|---|---|",
    )
    return "\n".join([*head, *(_row(line) for line in lines)]) + "\n"


def _row(line: Line) -> str:
    metric = "-"
    if line.metric is not None:
        values = (_number(arm.metric) for arm in (line.autoopt, line.default, line.tuned))
        metric = f"{line.metric[0]} ({line.metric[1]}): {' / '.join(values)}"
    cells = (
        line.example,
        str(line.autoopt),
        str(line.default),
        str(line.tuned),
        line.verdict(),
        metric,
        f"{line.profile_seconds:.1f} s",
        f"{line.tuned_seconds:.1f} s",
    )
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _mean(values: list[float | None]) -> float:
    finite = [value for value in values if value is not None]
    return statistics.fmean(finite) if len(finite) == len(values) and values else math.inf


def _sd(values: list[float | None]) -> float:
    return statistics.stdev(value for value in values if value is not None)
