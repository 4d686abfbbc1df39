"""Ray Tune as a peer: its environment, made once outside of the tree, and the way there and back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks.choice.live.nouns import DEFAULT, Pick, Tuned, Unavailable
from benchmarks.choice.live.searches import POINTS
from benchmarks.choice.live.setting import Setting
from benchmarks.results import ROOT

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autoopt-bench" / "ray"
_MODULE = "benchmarks.choice.live.ray_peer"
_ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
_LATE = 120.0
"""Seconds over its time, start-up and end included, after which it is given up."""


def ray_tune(setting: Setting) -> Tuned:
    """OptunaSearch with ASHA on the validation loss, in Ray's own worker processes.

    Raises: Unavailable, with the reason.
    """
    python = environment()
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        asked = {
            "target": str(setting.target),
            "names": list(setting.names),
            "steps": setting.steps,
            "seconds": setting.seconds,
            "tuning": setting.tuning,
            "initial": setting.initial,
            "workers": setting.crew.workers,
            "points": POINTS,
        }
        request.write_text(json.dumps(asked))
        try:
            done = subprocess.run(
                [python, "-m", _MODULE, request, answer],
                cwd=ROOT,
                env=os.environ | _ENVIRONMENT,
                capture_output=True,
                text=True,
                timeout=setting.seconds + _LATE,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"Ray did not end {_LATE:.0f} s after its time") from None
        if done.returncode or not answer.exists():
            last = (done.stderr.strip() or done.stdout.strip() or "nothing printed").splitlines()[-1]
            raise Unavailable(f"Ray ended with {done.returncode}: {last}")
        found = json.loads(answer.read_text())
    notes = []
    if found["processes"] != setting.crew.workers:
        notes.append(f"{found['processes']} processes loaded the workload, not {setting.crew.workers}")
    if found["seconds"] > 1.05 * setting.seconds:
        notes.append(f"took {found['seconds'] - setting.seconds:.1f} s longer than it was given")
    pick = DEFAULT
    if "optimizer" in found:
        pick = Pick.at(found["optimizer"], float(f"{found['rate']:.4g}"))
    else:
        notes.append("nothing was reported in time, so AdamW's default")
    return Tuned(
        pick, found["seconds"], found["startup"], found["started"], found["finished"], "; ".join(notes)
    )


def environment(folder: Path = CACHE) -> Path:
    """The Python that has Ray; installs it the first time, which takes minutes.

    Raises: Unavailable, with what the installer said.
    """
    python, ready = folder / "bin" / "python", folder / "ready"
    wanted = requirements()
    if ready.exists() and ready.read_text() == "\n".join(wanted):
        return python
    print(f"Installing {wanted[0]} into an environment of its own; this takes minutes, once.", flush=True)
    pip = [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt"]
    for command in ([sys.executable, "-m", "venv", folder], [*pip, *wanted, "-e", f"{ROOT}[zoo]"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            raise Unavailable(f"Ray could not be installed: {error}") from None
        if done.returncode:
            raise Unavailable(f"Ray could not be installed: {_error(done.stderr)}")
    ready.write_text("\n".join(wanted))
    return python


def installed(folder: Path = CACHE) -> bool:
    """Whether `environment` has nothing to install."""
    return (folder / "ready").exists()


def requirements() -> list[str]:
    """What is installed beside the project, with the torch that is used here."""
    return ["ray[tune]", "optuna", f"torch=={version('torch').partition('+')[0]}"]


def _error(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("ERROR")] or text.splitlines()[-1:]
    return " ".join(lines[:2]) or "the installer said nothing"
