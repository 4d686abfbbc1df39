"""How best rates and rankings move with the length of a run, over all tables, the long ones too:

    python -m benchmarks.choice.horizon                            # printed
    python -m benchmarks.choice.horizon --only long_deep --record  # and added to benchmarks/RESULTS.md

Runs of seed 0 alone, so that lengths are compared on the same seed. The best rate is the bottom of the parabola
through the best measured one and its neighbours, in log(rate) and v (`surface.py`). Where the best one is at the edge
of what was measured, or beside one that diverged, it is taken as it is; at an edge it is only known to be at least (at
most) that, so no shift is taken from it.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from autoopt.records import BASELINE
from benchmarks import results
from benchmarks.choice import LONG, WORKLOADS
from benchmarks.choice.regret import regret
from benchmarks.choice.rows import TABLES
from benchmarks.choice.surface import Surface, surfaces
from benchmarks.choice.world import Choice

COMMAND = "python -m benchmarks.choice.horizon"
T = TypeVar("T")
_FEWEST = 3
"""Pairs, below which there is no rank correlation."""


class Best(NamedTuple):
    """The best rate of an optimizer at a length.

    Args:
        x: log10 of the rate.
        edge: -1 or 1 where it is the smallest or the largest that was measured, else 0.
    """

    x: float
    edge: int = 0


Line = Mapping[float, float]
"""log10 of a rate -> v; of a run that diverged the v of no training."""
Lengths = Mapping[float, Line]
"""Share of the real run -> line."""


@dataclass(frozen=True)
class Winner:
    """The best configuration at a length, and what it gives at the real one."""

    optimizer: str
    rate: float
    regret: float
    diverged: bool


def measured(surface: Surface) -> dict[str, Lengths]:
    """The runs of seed 0 of each optimizer that the surface knows."""
    found: dict[str, dict[float, dict[float, float]]] = {}
    for row in surface.rows:
        name = row["optimizer"]
        if row["seed"] == 0 and name in surface.optimizers and name != BASELINE:
            line = found.setdefault(name, {}).setdefault(row["length_fraction"], {})
            v = surface.v(None if surface.failed(row) else row["loss"])
            line[round(math.log10(row["settings"]["lr"]), 4)] = v
    return dict(found)


def best(line: Line, worst: float) -> Best | None:
    """The best rate of a line; None where every run failed.

    >>> best({-3.0: 2.0, -2.0: 1.0, -1.0: 1.5}, worst=4.0)
    Best(x=-1.833, edge=0)
    >>> best({-3.0: 2.0, -2.0: 1.0}, worst=4.0)
    Best(x=-2.0, edge=1)
    """
    xs = sorted(line)
    i = min(range(len(xs)), key=lambda i: line[xs[i]], default=0)
    if not xs or line[xs[i]] >= worst:
        return None
    if i in (0, len(xs) - 1):
        return Best(xs[i], 1 if i else -1)
    around = xs[i - 1 : i + 2]
    a, b, c = (line[x] for x in around)
    if max(a, c) >= worst or a + c <= 2 * b:
        return Best(xs[i])
    left, right = around[1] - around[0], around[2] - around[1]
    numerator = left**2 * (b - c) - right**2 * (b - a)
    denominator = left * (b - c) + right * (b - a)
    return Best(round(around[1] - 0.5 * numerator / denominator, 3))


def bests(lengths: Lengths, worst: float) -> dict[float, Best]:
    """The best rate at each length that has one."""
    found = {share: best(line, worst) for share, line in lengths.items()}
    return {share: one for share, one in found.items() if one is not None}


def shift(known: Mapping[float, Best], share: float) -> float | None:
    """Decades that the best rate moves per factor of 8 in length, from a share of the real run to all of it.

    >>> shift({0.015625: Best(-2.0), 1.0: Best(-3.0)}, 0.015625)
    -0.5
    """
    if share not in known or 1.0 not in known or known[share].edge or known[1.0].edge:
        return None
    return (known[1.0].x - known[share].x) * math.log(8) / math.log(1 / share)


def slope(known: Mapping[float, Best]) -> float | None:
    """Decades per factor of 8 by least squares over all lengths whose best rate is inside of what was measured."""
    inside = {math.log(share, 8): one.x for share, one in known.items() if not one.edge}
    return (
        statistics.linear_regression(list(inside), list(inside.values())).slope
        if len(inside) >= _FEWEST
        else None
    )


def spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Rank correlation, equal values sharing their rank; None where there are too few or all are equal.

    >>> spearman([(1, 10), (2, 20), (3, 30)])
    1.0
    """
    if len(pairs) < _FEWEST:
        return None
    a, b = (_ranks(values) for values in zip(*pairs, strict=True))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return round(float(np.corrcoef(a, b)[0, 1]), 6)


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((counts.cumsum() - (counts - 1) / 2)[inverse])


def agreement(found: Mapping[str, Lengths], share: float) -> tuple[float | None, float | None]:
    """Spearman of a length with the real one: of configurations, and of optimizers each at its best measured rate."""
    both = [(lengths[share], lengths[1.0]) for lengths in found.values() if {share, 1.0} <= set(lengths)]
    configurations = [(short[x], full[x]) for short, full in both for x in sorted(set(short) & set(full))]
    optimizers = [(min(short.values()), min(full.values())) for short, full in both]
    return spearman(configurations), spearman(optimizers)


def winner(surface: Surface, found: Mapping[str, Lengths], share: float) -> Winner | None:
    """The best configuration at a length, handed to the real one as it is."""
    some = [
        (v, name, x)
        for name, lengths in found.items()
        for x, v in lengths.get(share, {}).items()
        if v < surface.worst
    ]
    if not some:
        return None
    _, name, x = min(some)
    choice = Choice(name, float(f"{10**x:.3g}"))
    return Winner(choice.optimizer, choice.rate, *regret(surface, choice))


# --- told -----------------------------------------------------------------------------------------------------


def markdown(known: Mapping[str, Surface]) -> str:
    """All of it, as four tables."""
    found = {name: measured(surface) for name, surface in known.items()}
    shares = sorted({s for some in found.values() for lengths in some.values() for s in lengths})
    short = [share for share in shares if share < 1]
    parts = [
        "Decades that the best rate moves per factor of 8 in length: from each length to T, and by least squares over "
        "all lengths. Mean ± standard deviation over optimizers (their number, those at an edge left out); last lines: "
        "over the workloads' means, the usual and the long ones apart.",
        _shifts(known, found, short),
        "Spearman of the ranking at each length with that at T: of configurations / of optimizers at their best rates.",
        _agreements(found, short),
        "The winner of each length, and its regret at T on fresh seeds.",
        _winners(known, found, shares),
        "Best rates; `<` and `>`: at the edge of what was measured, `-`: every run failed.",
        _rates(known, found, shares),
    ]
    return "\n\n".join(parts) + "\n"


def _shifts(
    known: Mapping[str, Surface], found: Mapping[str, Mapping[str, Lengths]], short: Sequence[float]
) -> str:
    lines, means = [], dict[str, list[float | None]]()
    for workload, surface in known.items():
        best_rates = [bests(lengths, surface.worst) for lengths in found[workload].values()]
        columns = [[shift(one, share) for one in best_rates] for share in short]
        columns.append([slope(one) for one in best_rates])
        lines.append([workload, *map(_spread, columns)])
        means[workload] = [_mean(column) for column in columns]
    for title, some in _apart(means):
        lines.append([title, *(_spread(column) for column in zip(*some, strict=True))])
    return _table(["workload", *map(_length, short), "fit"], lines)


def _agreements(found: Mapping[str, Mapping[str, Lengths]], short: Sequence[float]) -> str:
    lines, seen = [], dict[str, list[tuple[float | None, float | None]]]()
    for workload, some in found.items():
        pairs = [agreement(some, share) for share in short]
        lines.append([workload, *(_both(a, b) for a, b in pairs)])
        seen[workload] = pairs
    for title, of_all in _apart(seen):
        columns = (zip(*column, strict=True) for column in zip(*of_all, strict=True))
        lines.append([title, *(_both(*map(_mean, column)) for column in columns)])
    return _table(["workload", *map(_length, short)], lines)


def _winners(
    known: Mapping[str, Surface], found: Mapping[str, Mapping[str, Lengths]], shares: Sequence[float]
) -> str:
    lines, regrets = [], dict[str, list[float | None]]()
    for workload, surface in known.items():
        ones = [winner(surface, found[workload], share) for share in shares]
        lines.append([workload, *map(_won, ones)])
        regrets[workload] = [None if one is None else one.regret for one in ones]
    for title, some in _apart(regrets):
        lines.append([title, *(_number(_mean(column), 3) for column in zip(*some, strict=True))])
    return _table(["workload", *map(_length, shares)], lines)


def _won(one: Winner | None) -> str:
    if one is None:
        return ""
    return f"{one.optimizer} {one.rate:.2g}: {one.regret:.3f}{', diverges' if one.diverged else ''}"


def _rates(
    known: Mapping[str, Surface], found: Mapping[str, Mapping[str, Lengths]], shares: Sequence[float]
) -> str:
    lines = []
    for workload, surface in known.items():
        for name, lengths in found[workload].items():
            best_rates = bests(lengths, surface.worst)
            cells = [_rate(best_rates.get(share)) if share in lengths else "" for share in shares]
            lines.append([workload, name, *cells])
    return _table(["workload", "optimizer", *map(_length, shares)], lines)


def _rate(one: Best | None) -> str:
    return "-" if one is None else f"{('', '> ', '< ')[one.edge]}{10**one.x:.2g}"


def _spread(values: Iterable[float | None]) -> str:
    some = [value for value in values if value is not None]
    if not some:
        return ""
    spread = f" ± {statistics.stdev(some):.2f}" if len(some) > 1 else ""
    return f"{statistics.fmean(some):+.2f}{spread} ({len(some)})"


def _apart(by_workload: Mapping[str, T]) -> list[tuple[str, list[T]]]:
    """The usual workloads and the long ones, which have other lengths, each under a title for their mean."""
    usual = [value for name, value in by_workload.items() if name not in LONG]
    long = [value for name, value in by_workload.items() if name in LONG]
    return [
        (title, some) for title, some in (("mean of the usual", usual), ("mean of the long", long)) if some
    ]


def _both(a: float | None, b: float | None) -> str:
    return "" if a is None and b is None else f"{_number(a, 2)} / {_number(b, 2)}"


def _mean(values: Iterable[float | None]) -> float | None:
    some = [value for value in values if value is not None]
    return statistics.fmean(some) if some else None


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _length(share: float) -> str:
    return "T" if share == 1 else f"T/{1 / share:g}"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))


def main() -> None:
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").split("\n")[0])
    able = (*WORKLOADS, *LONG)
    parser.add_argument("--only", nargs="+", choices=able, help="workloads; all that have tables")
    parser.add_argument("--tables", type=Path, default=TABLES, help="folder of the tables")
    parser.add_argument("--record", action="store_true", help="add it to benchmarks/RESULTS.md")
    flags = parser.parse_args()
    known = surfaces(flags.tables, flags.only or able)
    if not known:
        raise SystemExit(f"No table in {flags.tables} has two optimizers to compare yet.")
    lengths = ", ".join(f"{name} {surface.steps}" for name, surface in known.items())
    body = f"Steps of the real run, T: {lengths}.\n\n{markdown(known)}"
    if flags.record:
        only = f" --only {' '.join(flags.only)}" if flags.only else ""
        results.append(results.heading("Short runs and the real length", COMMAND + only) + body)
    else:
        print(body)


if __name__ == "__main__":
    main()
