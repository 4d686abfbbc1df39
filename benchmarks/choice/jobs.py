"""What a table needs, in the order in which it is useful: pure functions of the rows that there are.

grid      every optimizer, seed 0: rates from start / 32 to start x 32 in half decades, four lengths
wider     where the best rate of a grid is at its edge, up to a decade more on that side
long      the long workloads have six lengths, fewer optimizers and rates, and are widened at each length by itself
repeats   seeds 1 and 2 at full length, each optimizer's two best rates
fresh     three seeds for scoring: the four best configurations of all, AdamW's best, AdamW's default
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from autoopt.optim import registry
from autoopt.optim.spec import Need
from autoopt.records import BASELINE, Hyper
from benchmarks.choice import LONG
from benchmarks.choice.rows import Row

FRACTIONS = (1.0, 0.125, 0.25, 0.5)
LONG_FRACTIONS = (1.0, 1 / 128, 1 / 32, 0.125, 0.25, 0.5)
EXPONENTS = (0.0, -0.5, 0.5, -1.0, 1.0, -1.5, 1.5)
"""Decades from the catalog's start; the last two are left out for optimizers whose steps are dear."""
MOST_WIDER = 2
"""Half decades that a grid may grow on a side when its best rate is at that edge."""
REPEATS = (1, 2)
FRESH = (1000, 1001, 1002)
FIRST = (
    BASELINE,
    "adamw",
    "sgd",
    "muon",
    "adan",
    "sgd_sai",
    "nadam",
    "lion",
    "schedule_free_adamw",
    "prodigy",
)
LAST = ("adahessian",)
LONG_OPTIMIZERS = frozenset({BASELINE, "adamw", "sgd", "muon", "adan", "nadam", "lion"})
LONG_RATES = 5
BASELINE_START: Hyper = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.01}


@dataclass(frozen=True)
class Job:
    """One training."""

    workload: str
    optimizer: str
    settings: tuple[tuple[str, float], ...]
    fraction: float
    seed: int

    @property
    def work(self) -> float:
        """Full runs of a first-order optimizer that this takes about as long as."""
        return self.fraction * (3.5 if _dear(self.optimizer) else 1.0)


def of(row: Row) -> Job:
    """The job that a row is the answer to."""
    return _job(row["workload"], row["optimizer"], row["settings"], row["length_fraction"], row["seed"])


def fractions(workload: str) -> tuple[float, ...]:
    """The lengths of a workload's grid, in parts of its real run."""
    return LONG_FRACTIONS if workload in LONG else FRACTIONS


def optimizers(workload: str = "") -> list[str]:
    """Every installed optimizer of a table, those that decide most comparisons first, the dearest last.

    >>> optimizers("long_deep")
    ['baseline', 'adamw', 'sgd', 'muon', 'adan', 'nadam', 'lion']
    """
    known = [name for name in registry.names() if not registry.why_unavailable(registry.get(name))]
    middle = [name for name in known if name not in FIRST + LAST]
    able = [name for name in (*FIRST, *middle, *LAST) if name in [BASELINE, *known]]
    return [name for name in able if workload not in LONG or name in LONG_OPTIMIZERS]


def start(name: str) -> Hyper:
    """The settings in the middle of an optimizer's grid: the catalog's, or the baseline's."""
    return dict(BASELINE_START) if name == BASELINE else registry.get(name).start()


def rates(optimizer: str, number: int | None = None, workload: str = "") -> list[float]:
    """The learning rates of an optimizer's grid, the likeliest first.

    >>> rates("adamw", 3)
    [0.003, 0.000949, 0.00949]
    """
    middle = start(optimizer)["lr"]
    if optimizer == BASELINE:
        return [middle]
    usual = LONG_RATES if workload in LONG else 5 if _dear(optimizer) else len(EXPONENTS)
    return [float(f"{middle * 10**x:.3g}") for x in EXPONENTS[: number or usual]]


def pending(
    workloads: Sequence[str],
    names: Sequence[str] | None,
    rows: Mapping[Job, Row],
    *,
    number: int | None = None,
    lengths: Sequence[float] | None = None,
    impossible: Iterable[tuple[str, str]] = (),
) -> Iterator[Job]:
    """Jobs without a row, the most useful first; those that hang on rows that are not there yet are left out.

    Args:
        names: optimizers; each workload's own unless given.
        number: of learning rates; all unless given.
        lengths: in parts of the real run; each workload's own unless given.
        impossible: pairs (workload, optimizer) that cannot be trained.
    """
    left = set(impossible)
    possible = {w: [n for n in names or optimizers(w) if (w, n) not in left] for w in workloads}
    wanted: list[Job] = []
    for name in names or optimizers():
        able = [w for w in workloads if name in possible[w]]
        for workload in able:
            wanted += _grid(workload, name, number, lengths or fractions(workload))
        for workload in able:
            wanted += _wider(workload, name, number, lengths or fractions(workload), rows)
        for workload in able:
            wanted += _repeats(workload, name, number, rows)
    for workload in workloads:
        wanted += _fresh(workload, possible[workload], number, rows)
    return (job for job in wanted if job not in rows)


def total_work(
    workloads: Sequence[str], names: Sequence[str] | None = None, number: int | None = None
) -> float:
    """All of it, in full runs of a first-order optimizer."""
    work = 0.0
    for workload in workloads:
        for name in names or optimizers(workload):
            grid = _grid(workload, name, number, fractions(workload))
            work += sum(job.work for job in grid) + 2 * len(REPEATS) * max(job.work for job in grid)
        work += 6 * len(FRESH)
    return work


def _grid(workload: str, name: str, number: int | None, lengths: Sequence[float]) -> list[Job]:
    middle = start(name)
    return [
        _job(workload, name, middle | {"lr": rate}, fraction, 0)
        for fraction in lengths
        for rate in rates(name, number, workload)
    ]


def _wider(
    workload: str, name: str, number: int | None, lengths: Sequence[float], rows: Mapping[Job, Row]
) -> list[Job]:
    """More rates beyond an edge of the whole grid, while the best run of a length lies there.

    What the full runs ask for is run at every length. What shorter ones ask for is run on the long workloads alone,
    at that length alone: there it costs little, and shows how far the best rate moves.
    """
    if number is not None or name == BASELINE or 1.0 not in lengths:
        return []
    wanted = _beyond(workload, name, 1.0, lengths, rows)
    if workload in LONG:
        for length in lengths:
            wanted += _beyond(workload, name, length, [length], rows)
    return list(dict.fromkeys(wanted))


def _beyond(
    workload: str, name: str, decisive: float, lengths: Sequence[float], rows: Mapping[Job, Row]
) -> list[Job]:
    """Rates beyond the grid, run at `lengths`, while the best one of the decisive length is the outermost."""
    middle, wanted = start(name), list[Job]()
    usual = sorted(rates(name, workload=workload))
    ranked = _ranked(workload, name, None, rows, decisive)
    if not ranked:
        return []
    best = dict(ranked[0].settings)["lr"]
    for outermost, towards in ((usual[0], -0.5), (usual[-1], 0.5)):
        for _ in range(MOST_WIDER):
            if (best - outermost) * towards < 0:
                break
            outermost = float(f"{outermost * 10**towards:.3g}")
            wanted += [_job(workload, name, middle | {"lr": outermost}, f, 0) for f in lengths]
    return wanted


def _repeats(workload: str, name: str, number: int | None, rows: Mapping[Job, Row]) -> list[Job]:
    ranked = _ranked(workload, name, number, rows)
    return [_again(job, seed) for job in (ranked or [])[:2] for seed in REPEATS]


def _fresh(workload: str, names: Sequence[str], number: int | None, rows: Mapping[Job, Row]) -> list[Job]:
    ranked = {name: _ranked(workload, name, number, rows) for name in names}
    if any(jobs is None for jobs in ranked.values()):
        return []
    everything = [job for jobs in ranked.values() for job in jobs or []]
    best = sorted(everything, key=lambda job: rows[job]["loss"])[:4]
    best += (ranked.get("adamw") or [])[:1]
    best += (ranked.get(BASELINE) or [])[:1]
    return [_again(job, seed) for job in dict.fromkeys(best) for seed in FRESH]


def _ranked(
    workload: str, name: str, number: int | None, rows: Mapping[Job, Row], length: float = 1.0
) -> list[Job] | None:
    """Runs of a length and seed 0 that did not diverge, the best first; None until all of them are there."""
    full = _grid(workload, name, number, (length,))
    if any(job not in rows for job in full):
        return None
    if number is None:  # what was added beyond an edge counts too
        mine = (job for job in rows if (job.workload, job.optimizer) == (workload, name))
        full = list(dict.fromkeys([*full, *(j for j in mine if j.fraction == length and j.seed == 0)]))
    return sorted((job for job in full if not rows[job]["diverged"]), key=lambda job: rows[job]["loss"])


def _again(job: Job, seed: int) -> Job:
    return Job(job.workload, job.optimizer, job.settings, job.fraction, seed)


def _job(workload: str, name: str, settings: Mapping[str, float], fraction: float, seed: int) -> Job:
    return Job(workload, name, tuple(sorted(settings.items())), fraction, seed)


def _dear(name: str) -> bool:
    return name != BASELINE and Need.SECOND_ORDER in registry.get(name).needs
