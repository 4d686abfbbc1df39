"""What more workers give: on a real Ray cluster as far as this machine reaches, and simulated beyond. From the root:

    python -m benchmarks.cluster --real 1 2 4 --simulate 1 2 4 8 16 64 --record

Real: a profile of `examples/digits_mlp` on as many Ray nodes of one core on the loopback; beside it the same on as many
workers of this machine without Ray. Its efficiency is the share of workers x time, from the first trial to the end of the
budget, that was spent inside trials. Simulated: the product's own planner over the tables of `benchmarks.choice`, with the
same budget in full runs for any number of workers; a worker costs nothing to start there. Once the planner's own time is not
counted, so that what is lost is what it cannot use; and once, for each of `--full-run-seconds`, its processor seconds count
as real time of one server, as if a full run took so long.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from autoopt.journal import replay as events_of
from autoopt.records import PlanMade, RunEnded, TrialFinished, TrialStarted
from benchmarks import results
from benchmarks.choice import replay
from benchmarks.choice.regret import regret
from benchmarks.choice.rows import TABLES
from benchmarks.choice.surface import surfaces
from benchmarks.choice.world import Choice, World

COMMAND = "python -m benchmarks.cluster"
_SIMULATED = ["conv", "gpt", "recommender", "regression"]
_MODEL = ("examples/digits_mlp/model.py", "--ship", "examples")


def real(workers: int, budget: float, ray: bool) -> tuple[float, int]:
    """Share of workers x time inside trials, and how many trials ended."""
    from tests.trials.cluster.machines import Machines

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "autoopt", "profile", _MODEL[0], "--budget", f"{budget:g}s"]
        command += ["--out", str(out), "--device", "cpu", "--quiet", "--workers", str(workers)]
        machines = Machines() if ray else None
        try:
            if machines is not None:
                for _ in range(workers):
                    machines.add(num_cpus=1)
                command += ["--cluster", machines.address, *_MODEL[1:]]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        finally:
            if machines is not None:
                machines.close()
        events = list(events_of(out))
    begin = min(e.at for e in events if isinstance(e, TrialStarted))
    end = max(e.at for e in events if isinstance(e, TrialFinished))
    assert any(isinstance(e, PlanMade) for e in events)
    assert any(isinstance(e, RunEnded) for e in events)
    ended = [e.result for e in events if isinstance(e, TrialFinished)]
    busy = sum(r.seconds.get("total", 0.0) for r in ended)
    return busy / (workers * (end - begin)), len(ended)


@dataclass(frozen=True)
class Simulated:
    """Means over workloads and tunings.

    Args:
        inside: share of workers x time inside trials.
        planner, nothing: of the rest: waiting for the planner, and where nothing was worth starting.
        trials: that ended.
        configurations: that these were of.
        question: seconds of processor that a question took.
        regret: of what was chosen.
    """

    inside: float
    planner: float
    nothing: float
    trials: float
    configurations: float
    question: float
    regret: float


def simulated(workers: int, budget: float, tunings: int, full_run: float | None = None) -> Simulated:
    """A budget in full runs; the planner's time counts where it is told how many seconds a full run takes."""
    found = []
    for surface in surfaces(TABLES, _SIMULATED).values():
        thinking = 0.0 if full_run is None else surface.full_run / full_run
        for tuning in range(tunings):
            begin = time.process_time()
            chosen, planner = replay.tune(
                World(surface, tuning), budget * surface.full_run, workers, thinking=thinking
            )
            took = time.process_time() - begin
            whole = workers * budget * surface.full_run
            busy = sum(r.seconds.get("total", 0.0) for r in planner.results)
            keys = {(r.spec.optimizer, tuple(sorted(r.spec.hyper.items()))) for r in planner.results}
            regrets = 1.0
            slots = None
            if chosen is not None:
                choice, slots = chosen.recommendation, chosen.slots
                regrets = regret(surface, Choice(choice.optimizer, choice.hyper.get("lr", 1e-3)))[0]
            waited = (slots.planner / whole, slots.nothing / whole) if slots is not None else (0.0, 0.0)
            number = len(planner.results)
            found.append((busy / whole, *waited, number, len(keys), took / max(1, number), regrets))
    return Simulated(*(statistics.fmean(column) for column in zip(*found, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--real", nargs="*", type=int, default=[])
    parser.add_argument("--simulate", nargs="*", type=int, default=[])
    parser.add_argument("--seconds", type=float, default=60.0, help="budget of a real run")
    parser.add_argument("--full-runs", type=float, default=3.0, help="budget of a simulated run")
    parser.add_argument("--full-run-seconds", nargs="*", type=float, default=[600.0, 60.0])
    parser.add_argument("--tunings", type=int, default=2)
    parser.add_argument("--record", action="store_true")
    flags = parser.parse_args()
    lines = []
    if flags.real:
        lines += [
            f"Real, {flags.seconds:g} s each, digits_mlp: share of workers x time inside trials; trials ended.\n",
            "| workers | Ray | this machine without Ray |",
            "|---|---|---|",
        ]
        for count in flags.real:
            with_ray, without = real(count, flags.seconds, True), real(count, flags.seconds, False)
            lines.append(f"| {count} | {with_ray[0]:.2f}; {with_ray[1]} | {without[0]:.2f}; {without[1]} |")
            print(lines[-1], flush=True)
        lines.append("")
    if flags.simulate:
        lines += [
            f"Simulated, {flags.full_runs:g} full runs of AdamW each, {len(_SIMULATED)} workloads, {flags.tunings} tunings: "
            "means. Inside: share of workers x time inside trials. Planner, nothing: share that waited for the planner, "
            "or for which it had nothing worth starting.\n",
            "| workers | planner's time | inside | planner | nothing | trials | configurations | s a question | regret |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for count in flags.simulate:
            for full_run in (None, *flags.full_run_seconds):
                m = simulated(count, flags.full_runs, flags.tunings, full_run)
                words = "not counted" if full_run is None else f"counted, a full run takes {full_run:g} s"
                lines.append(
                    f"| {count} | {words} | {m.inside:.2f} | {m.planner:.2f} | {m.nothing:.2f} | {m.trials:.0f} | "
                    f"{m.configurations:.0f} | {m.question:.3f} | {m.regret:.3f} |"
                )
                print(lines[-1], flush=True)
    if flags.record:
        results.record("Cluster", COMMAND, lines)


if __name__ == "__main__":
    main()
