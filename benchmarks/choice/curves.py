"""Whole loss curves, a hundred points each, where the tables have ten: what `promise.py` needs for a run's first steps.

    python -m benchmarks.choice.curves                # trains all that is not there yet, minutes on one core

For each workload AdamW's best rate in its table, and the two best of other optimizers there: seed 0 at T/8, T/4, T/2
and T (tuning), fresh seeds at T (the real run). JSON lines in `curves.json.gz`, the columns of `rows.py`, but `curve`
has the pairs (step, mean training loss since the pair before) of the trial itself.
"""

from __future__ import annotations

from pathlib import Path

import torch

from autoopt.records import Hyper, TrialResult, TrialSpec
from autoopt.trials.execute import execute
from autoopt.workload import load
from benchmarks.choice import WORKLOADS, rows
from benchmarks.choice.jobs import FRESH
from benchmarks.choice.rows import TABLES, Row

FILE = Path(__file__).with_name("curves.json.gz")
RUNS = ((0.125, 0), (0.25, 0), (0.5, 0), (1.0, 0), (1.0, FRESH[0]), (1.0, FRESH[1]))
"""(length as a share of T, seed)."""


def main() -> None:
    torch.set_num_threads(1)
    known = {_identity(row) for row in rows.read(FILE)}
    configurations = {name: chosen(rows.read(TABLES / f"{name}.json.gz")) for name in WORKLOADS}
    for place in range(3):
        for name in WORKLOADS:
            if place >= len(configurations[name]):
                continue
            optimizer, settings = configurations[name][place]
            for fraction, seed in RUNS:
                if (name, optimizer, settings["lr"], fraction, seed) not in known:
                    row = trained(name, optimizer, settings, fraction, seed)
                    rows.append(FILE, row)
                    print(
                        f"{name} {optimizer} lr {settings['lr']:g}, T x {fraction:g}, seed {seed}", flush=True
                    )
    rows.write(FILE, rows.read(FILE))


def chosen(table: list[Row]) -> list[tuple[str, Hyper]]:
    """AdamW at its best rate of seed 0 at full length, and the best of each of the next two optimizers."""
    full = [r for r in table if r["length_fraction"] == 1.0 and r["seed"] == 0 and not r["diverged"]]
    best: dict[str, Hyper] = {}
    for row in sorted(full, key=lambda row: row["loss"]):
        if row["optimizer"] not in ("baseline", "adahessian"):  # the one is AdamW, the other's steps are dear
            best.setdefault(row["optimizer"], row["settings"])
    others = [name for name in best if name != "adamw"][:2]
    return [(name, best[name]) for name in ("adamw", *others) if name in best]


def trained(name: str, optimizer: str, settings: Hyper, fraction: float, seed: int) -> Row:
    """The row of one training."""
    workload = load(str(Path(__file__).with_name("workloads") / f"{name}.py"))
    try:
        steps = max(1, round(fraction * workload.settings.steps))
        initial = workload.evaluate(workload.start(seed, steps)).loss
        spec = TrialSpec(id=0, stage="curve", optimizer=optimizer, hyper=settings, steps=steps, seed=seed)
        *_, result = execute(workload, spec)
        assert isinstance(result, TrialResult)
        row = rows.row(name, result, cpu_seconds=0.0, length_fraction=fraction, initial_loss=initial)
    finally:
        workload.close()
    return row | {"curve": [(step, float(f"{loss:.4g}")) for step, loss in result.curve]}


def _identity(row: Row) -> tuple[str, str, float, float, int]:
    return row["workload"], row["optimizer"], row["settings"]["lr"], row["length_fraction"], row["seed"]


if __name__ == "__main__":
    main()
