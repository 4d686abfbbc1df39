"""A control group (version 2) for the processes of a job, where this user may make one.

Whoever is born in it stays in it, whatever it does to its session, its parent or its environment, and all are killed by
one write. A systemd unit with `Delegate=yes` allows it; elsewhere the guard and the marker in the environment do without.
Standard library only: the guard imports this.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_KILL_SECONDS = 3.0


def place(name: str, root: Path = Path("/")) -> Path | None:
    """Where the group `name` would be: beside this process, in the unified hierarchy; `None` where there is none.

    Args:
        root: where /proc is; for tests.
    """
    try:
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
        own = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    path = next((line[3:] for line in own if line.startswith("0::")), None)
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        if path is not None and after.startswith("cgroup2 "):
            folder = Path(before.split()[4]) / path.lstrip("/")
            if (folder / "cgroup.procs").exists():
                return folder / name
    return None


def make(name: str) -> Path | None:
    """Make the group; `None` where this is not allowed."""
    folder = place(name)
    if folder is None:
        return None
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    # Without a kill of the kernel's own (Linux 5.14) the group would promise more than it holds.
    return folder if os.access(folder / "cgroup.kill", os.W_OK) else None


def left(prefix: str) -> list[Path]:
    """The groups beside this process whose names begin so."""
    any_name = place("x")
    return [] if any_name is None else [path for path in any_name.parent.glob(f"{prefix}*") if path.is_dir()]


def enter(folder: Path) -> None:
    """Move this process into the group; where the system refuses, it stays outside."""
    with suppress(OSError):
        (folder / "cgroup.procs").write_text("0")


def end(folder: Path) -> None:
    """Kill all that is in the group, and remove it. Harmless when it is gone."""
    deadline = time.monotonic() + _KILL_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError):
            (folder / "cgroup.kill").write_text("1")
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:  # they are still going
            time.sleep(0.005)
        else:
            return
