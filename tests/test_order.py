"""The order of long tests, as pytest collects them in one process and in one of two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = """
import pytest

@pytest.mark.long(seconds=90)
def test_longest(): pass

@pytest.mark.long(seconds=10)
@pytest.mark.xdist_group("shared")
def test_shared_1(): pass

@pytest.mark.long
def test_long(): pass

@pytest.mark.long(seconds=10)
@pytest.mark.xdist_group("shared")
def test_shared_2(): pass

@pytest.mark.long(seconds=5)
def test_shorter(): pass

def test_short(): pass
"""


def order(folder: Path, *arguments: str, processes: int = 1) -> list[str]:
    (folder / "conftest.py").write_text(
        "from tests.order import pytest_collection_modifyitems, pytest_deal\n"
    )
    (folder / "test_it.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    long\n    xdist_group\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_XDIST_WORKER_COUNT": str(processes)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, "--collect-only", "-q", *arguments, "."],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.partition("::test_")[2] for line in done.stdout.splitlines() if "::" in line]


def test_the_long_ones_are_last_and_the_longest_at_the_end(tmp_path: Path) -> None:
    assert order(tmp_path) == ["short", "shorter", "long", "shared_1", "shared_2", "longest"]


def test_two_processes_begin_with_short_ones_and_a_group_stays_together(tmp_path: Path) -> None:
    assert order(tmp_path, "-m", "long", processes=2) == [
        "shorter",
        "shared_1",
        "shared_2",
        "long",
        "longest",
    ]


def test_what_is_not_long_alone_is_as_it_was(tmp_path: Path) -> None:
    assert order(tmp_path, "-m", "not long", processes=2) == ["short"]
