"""A driver for processes that tests start: this folder on PYTHONPATH, the state of the machine in the file FAKE_NVML.

The file is read at each call, so a test that writes it anew plugs cards in, starts processes on them, and breaks the
driver: {"cards": [{"uuid", "total", "used", "processes", ...}], "broken": "why", "hangs": true}; see `FakeNvml`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hardware.fake_nvml import Card, FakeNvml, NVMLError

__all__ = ["NVMLError"]

NVML_DEVICE_MIG_ENABLE = FakeNvml.NVML_DEVICE_MIG_ENABLE


def __getattr__(name: str) -> Callable[..., Any]:
    if not name.startswith("nvml"):
        raise AttributeError(name)

    def call(*arguments: Any) -> Any:
        state = json.loads(Path(os.environ["FAKE_NVML"]).read_text())
        while state.get("hangs"):
            time.sleep(3600)
        fake = FakeNvml(*map(_card, state["cards"]), broken=state.get("broken", ""))
        return getattr(fake, name)(*arguments)

    return call


def _card(told: dict[str, Any]) -> Card:
    return Card(**{**told, "parts": [part and _card(part) for part in told.get("parts", [])]})
