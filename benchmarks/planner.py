"""What a question to the planner costs, by the trials that it knows. From the root:

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.planner --trials 50 100 200 500 1000 2000 --record

Trials of random configurations, lengths and seeds are told to the product's own planner, from a table of
`benchmarks.choice`. Then it answers questions as on a cluster: one trial ends and is told, one is asked for and started,
`--pending` of them always in flight. Seconds are of processor time, so that a busy machine changes them little.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from autoopt import contest
from autoopt.records import BASELINE, TrialSpec
from autoopt.tuning import proposals
from autoopt.tuning.planner import Planner
from benchmarks import results
from benchmarks.choice import replay
from benchmarks.choice.rows import TABLES
from benchmarks.choice.surface import surfaces
from benchmarks.choice.world import World

COMMAND = "OPENBLAS_NUM_THREADS=1 python -m benchmarks.planner"
_WORKLOAD = "conv"
_PLENTY = 1e5
"""Budget in full runs: nothing is to end for want of time."""


def questions(trials: int, pending: int, number: int) -> list[float]:
    """Processor seconds of each of some questions, with as many trials told: telling, asking, starting."""
    surface = surfaces(TABLES, [_WORKLOAD])[_WORKLOAD]
    budget = _PLENTY * surface.full_run
    machine = replay.Machine(World(surface, 0), pending, budget)
    planner = _planner(machine, budget)
    rng = np.random.default_rng(trials)
    names = [name for name, arm in planner.arms.items() if not arm.dropped and name != BASELINE]
    for i in range(trials + pending):
        arm = planner.arms[str(rng.choice(names))]
        x = planner.field.prior.centre[arm.name] + 0.25 * int(rng.integers(-6, 7))
        spec = TrialSpec(
            id=i + 1,
            stage="race 1",
            optimizer=arm.name,
            hyper=arm.with_rate(arm.start, x),
            steps=int(rng.choice(planner.layout.lengths)),
            seed=int(rng.integers(500, 506)),
        )
        planner.start(spec)
        if i < trials:
            planner.tell(machine._result(spec))
        else:
            machine.submit(i - trials, spec)
    planner.ask(0.0)  # what is fitted at the first question is no part of the next one
    taken = []
    for _ in range(number):
        (ended,) = machine.wait(0.0)
        begin = time.process_time()
        planner.tell(ended)
        spec = planner.ask(machine.now)
        if spec is None:
            raise SystemExit(f"with {trials} trials the planner has nothing to ask for")
        planner.start(spec)
        taken.append(time.process_time() - begin)
        machine.submit(machine.idle()[0], spec)
    return taken


def _planner(machine: replay.Machine, budget: float) -> Planner:
    known = machine.start()
    entry = contest.enter(replay._policy("balanced"), known, named=False)
    planner, _ = contest.prepare(
        entry, known, budget=budget, begin=0.0, deadline=budget, workers=machine.slots, seed=0, done=[],
        known=replay.known_without(_WORKLOAD),
    )  # fmt: skip
    return planner


def main() -> None:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--trials", nargs="+", type=int, default=[50, 100, 200, 500, 1000, 2000])
    parser.add_argument("--pending", type=int, default=16)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--record", action="store_true")
    flags = parser.parse_args()
    proposals._MOST_TRIALS = 10**9
    lines = ["| trials told | milliseconds a question, mean | worst |", "|---|---|---|"]
    for trials in flags.trials:
        taken = questions(trials, flags.pending, flags.questions)
        lines.append(f"| {trials} | {1e3 * statistics.fmean(taken):.1f} | {1e3 * max(taken):.1f} |")
        print(lines[-1], flush=True)
    if flags.record:
        results.record("Planner", COMMAND, lines)


if __name__ == "__main__":
    main()
