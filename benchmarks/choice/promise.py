"""How often the real run keeps the promise: bands from short trials against runs of full length on fresh seeds.

    python -m benchmarks.choice.promise             # the coverage, printed; --record adds it to benchmarks/RESULTS.md

What a run would know, rows of tuning seeds up to a share of T, gives bands; each fresh run of the configuration at T
is inside or outside. The tables know a run by tenths, so their windows are 0 to 10 %, 10 to 30 % and the last tenth;
the windows of the promise itself are tested on the whole curves of `curves.py`, which are fewer. The last column of
the tests takes the widths times what would have covered 90 % of the other workloads' runs, and never this one's.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from autoopt.optim import registry
from autoopt.optim.spec import Need
from autoopt.recommend.foresight import Estimate, estimates
from autoopt.recommend.windows import CHECKPOINTS, mean_loss
from autoopt.records import BASELINE, Outcome, TrialResult, TrialSpec
from autoopt.tuning.score import Score
from benchmarks import results
from benchmarks.choice import HELD_OUT, WORKLOADS, curves, rows
from benchmarks.choice.rows import TABLES, Row

COMMAND = "python -m benchmarks.choice.promise"
LONGEST = (0.125, 0.25, 0.5, 1.0)
TENTHS = ((0.0, 0.1), (0.1, 0.3), (0.9, 1.0))
"""Windows that ten points of a curve can show."""
WARMUP = 0.05
COVERED = 0.9


@dataclass(frozen=True)
class Test:
    """One fresh run against one band; `z` is the distance from the band's middle over half its width."""

    source: str
    workload: str
    longest: float
    known: str
    of: str
    share: float
    z: float
    half: float


def tests(source: str, table: Sequence[Row], checkpoints: Sequence[tuple[float, float]]) -> Iterator[Test]:
    """All tests that the rows of one workload allow."""
    told = [(row, result(row)) for row in table]
    fresh = [(row, r) for row, r in told if row["seed"] >= 1000 and not row["diverged"]]
    for longest in LONGEST:
        seen = [r for row, r in told if row["seed"] < 1000 and row["length_fraction"] <= longest]
        for row, real in fresh:
            same = [r for r in seen if _same(r, real)]
            others = [r for _, r in fresh if r is not real]
            cases = {"itself": seen, "neighbours": [r for r in seen if r not in same]}
            if longest == 1.0:
                cases["itself and other fresh seeds"] = seen + others
            if not any(r.spec.steps == round(longest * real.spec.steps) for r in same):
                continue  # the configuration was not trained at that length
            score = Score(row["initial_loss"])
            for known, trials in cases.items():
                made = estimates(
                    trials,
                    real.spec.optimizer,
                    real.spec.hyper,
                    real.spec.steps,
                    score,
                    schedule=_schedule(real.spec.optimizer),
                    warmup=WARMUP,
                    checkpoints=checkpoints,
                )
                for e in made:
                    y = actual(real, e, score)
                    if y is not None:
                        z = abs(y - e.y) / e.half
                        yield Test(source, row["workload"], longest, known, e.of, e.share, z, e.half)


def result(row: Row) -> TrialResult:
    """A row of a table as the trial that it was."""
    spec = TrialSpec(
        id=0,
        stage="table",
        optimizer=row["optimizer"],
        hyper=row["settings"],
        steps=row["steps"],
        seed=row["seed"],
    )
    steps = row["steps"]
    points = [(round(at * steps) if isinstance(at, float) else at, loss) for at, loss in row["curve"]]
    return TrialResult(
        spec=spec,
        outcome=Outcome.DIVERGED if row["diverged"] else Outcome.COMPLETED,
        loss=row["loss"],
        curve=points,
    )


def actual(real: TrialResult, estimate: Estimate, score: Score) -> float | None:
    """y of what the real run did."""
    if estimate.of == "validation loss":
        return None if real.loss is None else score.of_loss(real.loss)
    mean = mean_loss(real.curve, estimate.window)
    return None if mean is None else score.of_loss(mean)


def coverage(found: Sequence[Test]) -> float:
    """Share of the runs inside."""
    return statistics.fmean(t.z <= 1 for t in found)


def left_out(found: Sequence[Test], all_tests: Sequence[Test]) -> float:
    """Coverage with widths that are fitted to the other open workloads."""
    inside = []
    for name in {t.workload for t in found}:
        others = sorted(t.z for t in all_tests if t.workload != name and t.workload not in HELD_OUT)
        factor = others[min(len(others) - 1, int(COVERED * len(others)))] if others else 1.0
        inside += [t.z <= factor for t in found if t.workload == name]
    return statistics.fmean(inside)


def markdown(found: Sequence[Test]) -> str:
    """Coverage by source, what was known, the window and the longest trial; open and held-out workloads apart."""
    lines = [
        "| windows of | known of the configuration | loss | at | longest trial | runs | inside | "
        "median width, ± | fitted without the workload | held out: runs | inside |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    kinds = dict.fromkeys((t.source, t.known, t.of, t.share, t.longest) for t in sorted(found, key=_order))
    for kind in kinds:
        some = [t for t in found if (t.source, t.known, t.of, t.share, t.longest) == kind]
        held = [t for t in some if t.workload in HELD_OUT]
        open_ = [t for t in some if t.workload not in HELD_OUT]
        if not open_:
            continue
        source, known, of, share, longest = kind
        width = 100 * statistics.median(t.half for t in open_)
        lines.append(
            f"| {source} | {known} | {of.removesuffix(' loss')} | {100 * share:g} % | T/{1 / longest:g} | {len(open_)} "
            f"| {100 * coverage(open_):.0f} % | {width:.0f} % | {100 * left_out(open_, open_):.0f} % "
            f"| {len(held)} | {100 * coverage(held):.0f} % |"
            if held
            else f"| {source} | {known} | {of.removesuffix(' loss')} | {100 * share:g} % | T/{1 / longest:g} | {len(open_)} "
            f"| {100 * coverage(open_):.0f} % | {width:.0f} % | {100 * left_out(open_, open_):.0f} % | 0 | |"
        )
    return "\n".join(lines) + "\n"


def _order(t: Test) -> tuple[str, str, str, float, float]:
    return t.source, t.known, t.of, t.share, t.longest


def _same(a: TrialResult, b: TrialResult) -> bool:
    return (a.spec.optimizer, a.spec.hyper) == (b.spec.optimizer, b.spec.hyper)


def _schedule(optimizer: str) -> str:
    own = optimizer != BASELINE and Need.OWN_SCHEDULE in registry.get(optimizer).needs
    return "constant" if own else "cosine"


def everything(names: Iterable[str]) -> list[Test]:
    """Tests on the tables, and on the whole curves."""
    whole = rows.read(curves.FILE)
    found: list[Test] = []
    for name in names:
        found += tests("tables", rows.read(TABLES / f"{name}.json.gz"), TENTHS)
        found += tests("curves", [r for r in whole if r["workload"] == name], CHECKPOINTS)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", default=list(WORKLOADS), choices=WORKLOADS)
    parser.add_argument("--record", action="store_true", help="adds the table to benchmarks/RESULTS.md")
    flags = parser.parse_args()
    found = everything(flags.only)
    open_ = [t for t in found if t.workload not in HELD_OUT]
    held = [t for t in found if t.workload in HELD_OUT]
    words = (
        f"Bands of 90 %, {len(found)} tests of fresh runs at full length. Open workloads: {100 * coverage(open_):.0f} % "
        f"inside; held out ({', '.join(sorted(HELD_OUT))}): {100 * coverage(held):.0f} %.\n\n"
    )
    if flags.record:
        results.append(
            results.heading("The promise of a recommendation, tested", f"{COMMAND} --record")
            + words
            + markdown(found)
        )
    else:
        print(words + markdown(found))


if __name__ == "__main__":
    main()
