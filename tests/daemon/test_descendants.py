"""What a guard does to all that descends from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autoopt.daemon import descendants
from autoopt.daemon.guarded import _ROOT
from tests.daemon.daemons import gone, until

STARTS = """
import subprocess, sys
child = subprocess.Popen([sys.argv[1]], cwd=sys.argv[2], start_new_session=True)
sys.stdin.read()
"""
CHILD = """#!/bin/sh
sleep 1000 &
echo $$ $! > pids.tmp
mv pids.tmp pids
wait
"""
IMPORTS = """
import sys; sys.path.insert(0, sys.argv[1]); import autoopt; del sys.path[0]
import os, subprocess
from autoopt.daemon import descendants, guard
child = subprocess.Popen(["sleep", "1000"])
descendants.kill(os.getpid())
child.wait()
known = sys.stdlib_module_names | {"autoopt", "__main__"}
print(sorted({name.partition(".")[0] for name in sys.modules} - known))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
@pytest.mark.parametrize("name", ["plain", "a) R 1 (b"])
def test_children_and_theirs_are_killed_whatever_they_are_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(CHILD)
    (tmp_path / name).chmod(0o700)
    ancestor = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", STARTS, str(tmp_path / name), str(tmp_path)], stdin=subprocess.PIPE
    )
    try:
        until((tmp_path / "pids").exists)
        pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
        assert len(pids) == 2
        assert not any(gone(pid) for pid in pids)
        descendants.kill(ancestor.pid)
        until(lambda: all(gone(pid) for pid in pids))
        assert ancestor.poll() is None
    finally:
        ancestor.communicate(b"", timeout=10)
    assert ancestor.returncode == 0


def test_the_guard_knows_the_standard_library_only() -> None:
    """It costs a bare interpreter: nothing else is imported, not even to kill."""
    command = [sys.executable, "-I", "-S", "-c", IMPORTS, _ROOT]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.stdout == "[]\n", found.stderr
