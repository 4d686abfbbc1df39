from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.daemons import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Where a daemon can be served; nothing of it outlives the test."""
    made = Place(tmp_path)
    yield made
    made.clean_up()


@pytest.fixture
def disk(place: Place) -> Iterator[Path]:
    """The daemon's home on a disk of its own, of 16 MiB."""
    place.home.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place.home)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield place.home
    place.clean_up()
    subprocess.run(["umount", "-l", str(place.home)], check=True)
