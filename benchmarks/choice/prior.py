"""What an earlier run is worth to a new one (`autoopt profile --prior`), and what it costs where it is of another model.

    python -m benchmarks.choice.prior             # printed
    python -m benchmarks.choice.prior --record    # and added to benchmarks/RESULTS.md

The earlier run is the product's own, replayed, with a budget of three full runs: on the same workload with other seeds, or
on another workload, a different one from tuning to tuning. Each is compared with the same tuning without it, which meets the
same luck and has the same knowledge of other networks: in the second case neither has any of the two workloads.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Literal

from autoopt.tuning.earlier import Earlier, earlier
from autoopt.tuning.knowledge import Knowledge
from benchmarks.choice import HELD_OUT, WORKLOADS, replay, telling
from benchmarks.choice.jobs import BASELINE_START
from benchmarks.choice.regret import regret
from benchmarks.choice.surface import DEFAULT_RATE, Surface, surfaces
from benchmarks.choice.world import Choice, World

COMMAND = "python -m benchmarks.choice.prior"
BUDGETS = (0.3, 1.0, 3.0)
EARLIER_BUDGET = 3.0
"""Full runs that the earlier run had."""
_TUNINGS = 20
_OTHER_LUCK = 1000
"""Added to a tuning's number for that of the run before it."""
_WORDS = {"same": "the same workload, other seeds", "other": "another workload"}


@dataclass(frozen=True)
class Pair:
    """One tuning without and with an earlier run: the regret of what each chose."""

    workload: str
    of: Literal["same", "other"]
    budget: float
    tuning: int
    without: float
    having: float


def before(surface: Surface, tuning: int, known: Knowledge, *, same: bool) -> Earlier:
    """A replayed run of the product on a workload, as a new one takes it."""
    made = World(surface, tuning + _OTHER_LUCK)
    _, planner = replay.tune(made, EARLIER_BUDGET * surface.full_run, others=known)
    own = ("adamw", dict(BASELINE_START))
    return earlier(planner.results, planner.score, surface.steps, own=own, parameters=1.0, same=same)


def play(surface: Surface, others: Sequence[Surface], budgets: Iterable[float], tunings: int) -> list[Pair]:
    """All tunings on one workload."""
    found = []
    for tuning in range(tunings):
        other = others[tuning % len(others)]
        alone = replay.known_without(surface.name)
        neither = alone.without({other.name, other.name.removeprefix("long_")})
        same = before(surface, tuning, alone, same=True)
        unlike = before(other, tuning, neither, same=False)
        for budget in budgets:
            a, b = (
                _regrets(surface, tuning, budget, known, run)
                for known, run in ((alone, same), (neither, unlike))
            )
            found.append(Pair(surface.name, "same", budget, tuning, *a))
            found.append(Pair(surface.name, "other", budget, tuning, *b))
    return found


def _regrets(
    surface: Surface, tuning: int, budget: float, known: Knowledge, run: Earlier
) -> tuple[float, float]:
    """Without and with the earlier run."""

    def worth(runs: Sequence[Earlier]) -> float:
        made, _ = replay.tune(World(surface, tuning), budget * surface.full_run, others=known, earlier=runs)
        if made is None:
            return regret(surface, Choice("baseline", DEFAULT_RATE))[0]
        chosen = made.recommendation
        return regret(surface, Choice(chosen.optimizer, chosen.hyper.get("lr", DEFAULT_RATE)))[0]

    return worth([]), worth([run])


def markdown(found: Sequence[Pair]) -> str:
    """Mean regrets over workloads, and the mean change with its standard error over workloads."""
    rows = [
        [
            words,
            "held out" if held else "open to tuning",
            f"{budget:g}",
            *_row([p for p in some if p.budget == budget]),
        ]
        for of, words in _WORDS.items()
        for held, some in telling.parts(p for p in found if p.of == of)
        for budget in sorted({p.budget for p in some})
    ]
    columns = [
        "earlier run of",
        "workloads",
        "full runs",
        "without",
        "with",
        "change",
        "worst change of a workload",
    ]
    return telling.table(columns, rows) + "\n"


def _row(some: Sequence[Pair]) -> list[str]:
    names = sorted({p.workload for p in some})
    changes = {n: statistics.fmean(p.having - p.without for p in some if p.workload == n) for n in names}
    error = statistics.stdev(changes.values()) / math.sqrt(len(names)) if len(names) > 1 else 0.0
    worst = max(names, key=lambda n: changes[n])
    without, having = (statistics.fmean(v) for v in ([p.without for p in some], [p.having for p in some]))
    change = f"{having - without:+.3f} ± {error:.3f}"
    return [f"{without:.3f}", f"{having:.3f}", change, f"{changes[worst]:+.3f} {worst}"]


def main() -> None:
    flags = _flags()
    begin = time.monotonic()
    known = surfaces()
    free = [s for n, s in known.items() if n not in HELD_OUT]
    names = [n for n in known if n in flags.only]
    work = [(known[n], [s for s in free if s.name != n], flags.budgets, flags.tunings) for n in names]
    if flags.jobs == 1:
        found = [pair for item in work for pair in play(*item)]
    else:
        with ProcessPoolExecutor(flags.jobs) as pool:
            found = [pair for pairs in pool.map(play, *zip(*work, strict=True)) for pair in pairs]
    text = (
        f"{len(names)} workloads, {flags.tunings} simulated tunings each, the earlier run with a budget of "
        f"{EARLIER_BUDGET:g} full runs; replayed in {time.monotonic() - begin:.0f} s. Mean regrets; the change with its "
        "standard error over workloads (negative: the earlier run helps).\n\n" + markdown(found)
    )
    only = f" --only {' '.join(flags.only)}" if flags.only != list(WORKLOADS) else ""
    telling.tell("What an earlier run is worth", COMMAND, flags, text, only)


def _flags() -> argparse.Namespace:
    parser = telling.parser(COMMAND, __doc__, budgets=BUDGETS, tunings=_TUNINGS)
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), help="workloads")
    return parser.parse_args()


if __name__ == "__main__":
    main()
