"""Every planner and peer over the tables, at equal time. From the root of the repository:

    python -m benchmarks.choice.report                                  # the table, printed
    python -m benchmarks.choice.report --tuners autoopt staged --detail # some of them, workload by workload
    python -m benchmarks.choice.report --record                         # and added to benchmarks/RESULTS.md

Budgets are in AdamW's full runs; each tuning has its own luck, the same for every tuner. What is learned from tables
is learned from the other workloads, and never from those held out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.choice import HELD_OUT, LONG, WORKLOADS, peers, regret, replay, telling
from benchmarks.choice.peers import Tuner
from benchmarks.choice.regret import Outcome, Summary, summarise
from benchmarks.choice.rows import TABLES
from benchmarks.choice.surface import Surface, surfaces

COMMAND = "python -m benchmarks.choice.report"
TUNERS: dict[str, tuple[str, Tuner | None]] = {
    "autoopt": ("autoopt", replay.autoopt),
    "adamw_default": ("AdamW at its default", peers.adamw_default),
    "adamw_grid": ("AdamW alone, rates in full runs", peers.adamw_grid),
    "adamw_tpe": ("AdamW alone, TPE in full runs", peers.adamw_tpe),
    "fixed": ("the best fixed configuration of other workloads", None),
    "portfolio": ("a portfolio of such, in full runs", None),
    "random_full": ("random search over full runs", peers.random_full),
    "optuna_hyperband": ("Optuna: categorical, TPE, Hyperband", peers.optuna_hyperband),
    "staged": ("plain staged search", peers.staged),
    "short_winner": ("the winner at T/8", peers.short_winner),
}
"""name -> (words, tuner); None: learned anew for each workload from the others."""
_UNTUNED = frozenset({"adamw_default", "fixed"})


def tuner_of(name: str, surface: Surface, known: dict[str, Surface]) -> Tuner:
    """A tuner as it may be used on a workload: what it learned, it learned on others."""
    made = TUNERS[name][1]
    if made is not None:
        return made
    others = [s for n, s in known.items() if n != surface.name and n not in HELD_OUT]
    configurations = peers.learned(others)
    return peers.fixed(configurations[0]) if name == "fixed" else peers.portfolio(configurations)


def outcomes(
    known: dict[str, Surface],
    names: Sequence[str],
    budgets: Sequence[float],
    tunings: int,
    workers: int,
    jobs: int = 1,
) -> list[Outcome]:
    """All tunings of all tuners."""
    work = [(known, workload, name, budgets, tunings, workers) for name in names for workload in known]
    if jobs == 1:
        return [one for item in work for one in _play(item)]
    with ProcessPoolExecutor(jobs) as pool:
        return [one for some in pool.map(_play, work) for one in some]


def _play(item: tuple[dict[str, Surface], str, str, Sequence[float], int, int]) -> list[Outcome]:
    known, workload, name, budgets, tunings, workers = item
    surface = known[workload]
    tuner = tuner_of(name, surface, known)
    return regret.play(surface, name, tuner, budgets, 1 if name in _UNTUNED else tunings, workers)


def markdown(found: Sequence[Outcome], detail: bool = False) -> str:
    """A table for the workloads that planners may be tuned on, and one for those held out."""
    told = []
    for held, some in telling.parts(found):
        told.append(f"{telling.title(held, some)}.\n\n{_table(some)}")
        if detail:
            told.append(_detail(some))
    return "\n\n".join(told) + "\n"


def _table(found: Sequence[Outcome]) -> str:
    budgets = sorted({o.budget for o in found})
    rows = []
    for name, (words, _) in TUNERS.items():
        cells = [
            _cell(summarise(some))
            for b in budgets
            if (some := [o for o in found if o.tuner == name and o.budget == b])
        ]
        if cells:
            rows.append([words, *cells])
    return telling.table(["tuner", *(f"{b:g} full runs" for b in budgets)], rows)


def _cell(s: Summary) -> str:
    diverged = f", diverged {s.diverged} of {s.number}" if s.diverged else ""
    return f"{s.mean:.3f} ± {s.spread:.3f}; {s.worst:.2f} {s.where}{diverged}"


def _detail(found: Sequence[Outcome]) -> str:
    """Workload by workload: the mean regret at each budget, and what was chosen most."""
    budgets = sorted({o.budget for o in found})
    names = sorted({o.workload for o in found})
    rows = []
    for tuner in TUNERS:
        for b in budgets:
            some = [o for o in found if o.tuner == tuner and o.budget == b]
            if some:
                means = summarise(some).by_workload
                rows.append([tuner, f"{b:g}", *(f"{means[n]:.3f}" for n in names)])
    return telling.table(["tuner", "full runs", *names], rows)


def main() -> None:
    flags = _flags()
    begin = time.monotonic()
    known = surfaces(flags.tables, flags.only)
    if not known:
        raise SystemExit(f"No table in {flags.tables} has two optimizers to choose from yet.")
    found = outcomes(known, flags.tuners, flags.budgets, flags.tunings, flags.workers, flags.jobs)
    words = [
        f"{len(known)} workloads, {flags.workers} workers, {flags.tunings} simulated tunings each; "
        f"replayed in {time.monotonic() - begin:.0f} s. Each cell: mean regret over the workloads ± its standard "
        "deviation from tuning to tuning; the worst workload's mean and its name.",
        "In the tables: " + "; ".join(f"{n} {len(s.optimizers)} optimizers" for n, s in known.items()) + ".",
    ]
    body = "\n\n".join(words) + "\n\n" + markdown(found, flags.detail)
    more = f" --workers {flags.workers}" + (f" --only {' '.join(flags.only)}" if flags.only else "")
    more += f" --tuners {' '.join(flags.tuners)}" if flags.tuners != list(TUNERS) else ""
    telling.tell("Choice, replayed", COMMAND, flags, body, more)


def _flags() -> argparse.Namespace:
    parser = telling.parser(COMMAND, __doc__, budgets=[0.3, 1.0, 3.0, 15.0])
    parser.add_argument("--workers", type=int, default=2, help="trials at once")
    parser.add_argument("--tuners", nargs="+", choices=list(TUNERS), default=list(TUNERS), metavar="NAME")
    parser.add_argument(
        "--only", nargs="+", choices=(*WORKLOADS, *LONG), help="workloads; all but the long ones"
    )
    parser.add_argument("--tables", type=Path, default=TABLES, help="folder of the tables")
    parser.add_argument("--detail", action="store_true", help="workload by workload")
    return parser.parse_args()


if __name__ == "__main__":
    main()
