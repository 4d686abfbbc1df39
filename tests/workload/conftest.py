from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from autoopt.workload import Workload, load
from tests.workload.files import write

Opener = Callable[..., Workload]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Writes a model file, loads it, and closes it at the end."""
    found: list[Workload] = []

    def open_(text: str, *args: Any, **kwargs: Any) -> Workload:
        found.append(load(write(tmp_path, text), *args, **kwargs))
        return found[-1]

    yield open_
    for workload in found:
        workload.close()
