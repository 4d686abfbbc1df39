from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).resolve().parent


@dataclass
class Driver:
    """The fake driver of processes that a test starts with `environment`."""

    state: Path

    @property
    def environment(self) -> dict[str, str]:
        folders = [str(_HERE / "nvml_on_disk"), str(_HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
        return {"FAKE_NVML": str(self.state), "PYTHONPATH": os.pathsep.join(filter(None, folders))}

    def says(self, *cards: dict[str, Any], **more: Any) -> None:
        """From now on, at once: a half-written file is never seen."""
        beside = self.state.with_suffix(".new")
        beside.write_text(json.dumps({"cards": cards, **more}))
        beside.replace(self.state)


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    made = Driver(tmp_path / "nvml.json")
    made.says()
    return made
