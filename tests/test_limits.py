"""A test that hangs: in Python, and outside of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOOKS = "from tests import limits\nfrom tests.limits import pytest_configure, pytest_runtest_protocol\n"


def go(folder: Path, test: str, seconds: float, grace: float) -> subprocess.CompletedProcess[str]:
    """A run of a test under such limits."""
    (folder / "conftest.py").write_text(f"{HOOKS}limits.SECONDS, limits.GRACE = {seconds}, {grace}\n")
    (folder / "test_it.py").write_text(test)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "."]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_a_test_that_hangs_fails_and_the_next_one_runs(tmp_path: Path) -> None:
    text = "import threading\ndef test_hangs():\n    threading.Event().wait()\ndef test_next():\n    pass\n"
    done = go(tmp_path, text, seconds=0.5, grace=60.0)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 1 passed" in done.stdout
    assert "TooLong: it took longer than 0.5 s" in done.stdout
    assert "threading.Event().wait()" in done.stdout, "where it was"


def test_one_that_hears_no_signal_ends_with_its_process_and_tells_where_it_was(tmp_path: Path) -> None:
    text = (
        "import signal, threading\n"
        "def test_deaf():\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\n"
        "    threading.Event().wait()\n"
    )
    done = go(tmp_path, text, seconds=0.3, grace=0.2)
    assert done.returncode == 1
    assert "test_it.py" in done.stderr
    assert "in test_deaf" in done.stderr
