"""A finished run to export."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export import runs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return runs.write(tmp_path / "digits")
