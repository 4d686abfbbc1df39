"""What it takes to repeat a run, and where its seconds went."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoopt import __version__
from autoopt.hardware import describe
from autoopt.records import TrialResult, WorkloadReport


def gather(target: str, seed: int, results: list[TrialResult], more: Mapping[str, Any]) -> dict[str, Any]:
    """Versions, machine, seeds, trials and git commit."""
    return {
        "autoopt": __version__,
        "python": sys.version.split()[0],
        "machine": describe(),
        "seed": seed,
        "seeds": sorted({r.spec.seed for r in results}),
        "trials": len(results),
        "git": _commit(Path(target).resolve().parent) if target.endswith(".py") else None,
        **more,
    }


def ledger(
    report: WorkloadReport, results: list[TrialResult], workers: int, wall: float, begin: float
) -> dict[str, float]:
    """Seconds summed over workers: import, calibrate, build, data, compile, train, evaluate, idle; and wall.

    Args:
        begin: seconds from the start of the run to the first trial; what of it was no calibration was import.
    """
    names = ("import", "calibrate", "build", "data", "compile", "train", "evaluate")
    spent = dict.fromkeys(names, 0.0)
    measured = sum(v for k, v in report.seconds.items() if k not in ("import", "first_step", "compile"))
    compiled = report.seconds.get("compile", 0.0)
    spent["calibrate"] = workers * measured
    spent["compile"] = workers * compiled
    spent["import"] = workers * max(0.0, begin - measured - compiled)
    for result in results:
        for name in ("build", "data", "compile", "train", "evaluate"):
            spent[name] += result.seconds.get(name, 0.0)
    spent["idle"] = max(0.0, workers * wall - sum(spent.values()))
    return {**spent, "wall": wall}


def _commit(folder: Path) -> str | None:
    """The commit of the folder's checkout, "+changes" when it is not clean; `None` outside of one."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=5
    )
    return done.stdout.strip()
