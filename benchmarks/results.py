"""Where measurements are kept, and what each says about where it was taken."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"


def heading(title: str, command: str) -> str:
    """Title, time, commit ("dirty" if anything differs from it) and the command that repeats it."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    now = datetime.datetime.now(tz=datetime.UTC)
    return f"\n## {title}, {now:%Y-%m-%d %H:%M} UTC, at {commit}\n\n    {command}\n\n"


def machine() -> str:
    """Cores and versions: "2 cores (x86_64), Python 3.11.7, torch 2.13.0"."""
    cores = f"{os.cpu_count()} cores ({platform.machine()})"
    return f"{cores}, Python {platform.python_version()}, torch {version('torch')}"


def record(title: str, command: str, lines: list[str]) -> None:
    """Adds what a benchmark printed, under the command that it was started by, with its own arguments."""
    given = " ".join(a for a in sys.argv[1:] if a != "--record")
    append(f"{heading(title, f'{command} {given}')}{machine()}.\n\n" + "\n".join(lines) + "\n")


def append(text: str) -> None:
    """Prints a section and adds it to RESULTS.md."""
    print(text)
    with RESULTS.open("a") as file:
        file.write(text)
