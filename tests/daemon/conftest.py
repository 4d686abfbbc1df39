from __future__ import annotations

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
