"""What a step of each optimizer costs on each workload, measured in turn, and put into the tables:

    python -m benchmarks.choice.costs

The rows of a table are made over an hour or more on a machine that has other work, and the CPU time of a step
changes with what runs beside it, by up to a factor of two: an optimizer that was measured in a busy minute would seem
slow. So the steps of all optimizers are timed here alternately, within seconds of one another, and the column
`seconds` becomes steps x the cost of a step: the lower quartile of all its steps, since other work can only add to
it. `cpu_seconds` keeps what each run took.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections import defaultdict
from pathlib import Path

import torch

from autoopt.errors import OptimizerUnavailable
from autoopt.records import TrialSpec
from autoopt.trials.execute import execute
from autoopt.workload import Workload, load
from benchmarks.choice import LONG, WORKLOADS, jobs, rows

FOLDER = Path(__file__).with_name("workloads")
COSTS = rows.TABLES / "costs.json"
ROUNDS, WARM, TIMED = 4, 4, 16


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.choice.costs", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--only", nargs="*", choices=(*WORKLOADS, *LONG), help="workloads to time; all but the long ones"
    )
    given = parser.parse_args().only
    only = list(WORKLOADS) if given is None else given
    torch.set_num_threads(1)
    known = json.loads(COSTS.read_text()) if COSTS.exists() else {}
    for index, name in enumerate(only, 1):
        known[name] = measure(name)
        cheapest, dearest = min(known[name].values()), max(known[name].values())
        print(f"{index} of {len(only)}: {name}, {1e3 * cheapest:.2f} to {1e3 * dearest:.2f} ms", flush=True)
        COSTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    for name in only or known:  # of nobody, and so of all that were timed before
        file = rows.TABLES / f"{name}.json.gz"
        if file.exists():
            rows.write(file, [priced(row, known[name]) for row in rows.read(file)])


def measure(name: str, rounds: int = ROUNDS, folder: Path = FOLDER) -> dict[str, float]:
    """Seconds of a step of every optimizer that can train the workload: lower quartiles."""
    workload = load(str(folder / f"{name}.py"))
    found: dict[str, list[float]] = defaultdict(list)
    names = jobs.optimizers()
    try:
        for _ in range(rounds):
            for optimizer in list(names):
                try:
                    found[optimizer] += _steps(workload, optimizer)
                except OptimizerUnavailable:
                    names.remove(optimizer)
    finally:
        workload.close()
    return {
        optimizer: float(f"{statistics.quantiles(times)[0]:.4g}")
        for optimizer, times in found.items()
        if times
    }


def _steps(workload: Workload, optimizer: str) -> list[float]:
    """CPU seconds of steps after the first few, at a rate at which nothing diverges so soon."""
    hyper = jobs.start(optimizer)
    spec = TrialSpec(
        id=0,
        stage="cost",
        optimizer=optimizer,
        hyper=hyper | {"lr": hyper["lr"] / 10},
        steps=WARM + TIMED,
        seed=0,
        eval_batches=1,
    )
    times = [time.process_time() for _ in execute(workload, spec)][:-1]  # the last is the result
    return [after - before for before, after in itertools.pairwise(times[WARM - 1 :])]


def priced(row: rows.Row, costs: dict[str, float]) -> rows.Row:
    """The row with `seconds` at the cost of its optimizer's step."""
    cost = costs.get(row["optimizer"])
    if cost is None:
        return row
    return row | {
        "cpu_seconds": row.get("cpu_seconds", row["seconds"]),
        "seconds": float(f"{cost * row['steps_done']:.6g}"),
    }


if __name__ == "__main__":
    main()
