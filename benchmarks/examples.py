"""Does autoopt's choice hold on the examples? One command, from the root of the repository:

    python -m benchmarks.examples

For each example: `autoopt profile` within the budget and the train.py that it writes, over fresh seeds; AdamW
at 1e-3 with the same schedule, steps and seeds; AdamW tuned in full-length runs for the same wall-clock on
the same cores. The table is printed and appended to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from autoopt.records import Recommendation, TrialResult
from autoopt.report import recipe
from autoopt.trials.pool import Pool
from autoopt.units import parse_duration
from benchmarks import adamw
from benchmarks.results import ROOT, append, heading, machine
from benchmarks.table import Arm, Line, markdown

AUTOOPT = "import sys; from autoopt.cli.main import main; sys.exit(main())"
"""The command `autoopt`, of this checkout and not of whatever is installed."""


def main() -> None:
    flags = _flags()
    names = flags.examples or sorted(path.parent.name for path in (ROOT / "examples").glob("*/model.py"))
    lines = []
    with tempfile.TemporaryDirectory(prefix="autoopt-benchmark-") as folder:
        for name in names:
            lines.append(measure(name, Path(flags.out or folder) / name, flags))
            print(markdown(lines[-1:]), flush=True)
    append(_heading(flags) + markdown(lines) + "\n")


def measure(name: str, out: Path, flags: argparse.Namespace) -> Line:
    """All of one example."""
    target = f"examples/{name}/model.py"
    begin = time.monotonic()
    arguments = [
        "profile",
        target,
        "--budget",
        flags.budget,
        "--workers",
        str(flags.workers),
        "--out",
        str(out),
    ]
    subprocess.run([sys.executable, "-c", AUTOOPT, *arguments], cwd=ROOT, check=True)
    profile_seconds = time.monotonic() - begin
    found = recipe.load(out / "recommendation.yaml")
    ours = _trained(out / "train.py", flags)
    begin = time.monotonic()
    with _pool(target, out, flags.workers) as pool:
        settings = pool.start().settings
        tuned = adamw.tune(pool, settings, parse_duration(flags.budget), begin)
        arms = [adamw.run_seeds(pool, hyper, settings, flags.seeds) for hyper in ({"lr": 1e-3}, tuned.hyper)]
    return Line(
        example=name,
        autoopt=Arm(_choice(found), [run["val_loss"] for run in ours], [run["metric"] for run in ours]),
        default=_arm("lr 0.001", arms[0]),
        tuned=_arm(f"{_hyper(tuned.hyper)}, best of {tuned.trials} runs", arms[1]),
        metric=settings.metric,
        profile_seconds=profile_seconds,
        tuned_seconds=tuned.seconds,
    )


def _trained(script: Path, flags: argparse.Namespace) -> list[dict[str, Any]]:
    """What train.py prints, seed by seed; as many at once as there are workers, the cores divided."""
    cores = max(1, (os.cpu_count() or 1) // flags.workers)
    environment = os.environ | {"OMP_NUM_THREADS": str(cores), "PYTHONPATH": str(ROOT)}

    def run(seed: int) -> dict[str, Any]:
        checkpoint = script.with_name(f"checkpoint-{seed}.pt")
        command = [
            sys.executable,
            str(script),
            "--json",
            "--seed",
            str(seed),
            "--checkpoint",
            str(checkpoint),
        ]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode not in (0, 5):  # 5: it diverged, which is a result
            raise SystemExit(f"{shlex.join(command)} ended with exit code {done.returncode}.")
        outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return outcome

    with ThreadPoolExecutor(flags.workers) as threads:
        return list(threads.map(run, flags.seeds))


@contextlib.contextmanager
def _pool(target: str, out: Path, workers: int) -> Iterator[Pool]:
    logs = out / "rivals"
    logs.mkdir(parents=True, exist_ok=True)
    pool = Pool(str(ROOT / target), log_dir=logs, devices=["cpu"], workers=workers)
    try:
        yield pool
    finally:
        pool.close()


def _arm(note: str, results: list[TrialResult]) -> Arm:
    return Arm(note, [result.loss for result in results], [result.metric for result in results])


def _choice(found: Recommendation) -> str:
    choice = found.recommendation
    return f"{choice.optimizer}, {_hyper(choice.hyper)}, confidence {found.confidence.label}"


def _hyper(hyper: dict[str, float]) -> str:
    return ", ".join(f"{key} {value:.3g}" for key, value in hyper.items())


def _heading(flags: argparse.Namespace) -> str:
    """What was run, on what, and how to read it."""
    told = [*flags.examples, f"--budget {flags.budget}", f"--workers {flags.workers}"]
    told.append(f"--seeds {' '.join(map(str, flags.seeds))}")
    return (
        heading("Examples", f"python -m benchmarks.examples {' '.join(told)}")
        + f"{flags.workers} trials at once on {machine()}. Validation loss after STEPS steps: mean ± "
        "standard deviation over the seeds, which no tuning saw. better / worse: by more than the 95 % interval "
        "of the difference; same: within it. Metrics: autoopt / AdamW at 1e-3 / AdamW tuned.\n\n"
    )


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.examples", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("examples", nargs="*", help="names of folders in examples/; all unless given")
    parser.add_argument("--budget", default="60s", help="wall-clock of the profile, and of tuning AdamW")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[3001, 3002, 3003], help="fresh seeds to score on"
    )
    parser.add_argument("--workers", type=int, default=2, help="trials at once")
    parser.add_argument("--out", help="keep the profiles in this folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
