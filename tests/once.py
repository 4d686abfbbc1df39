"""What is dear to make and read by several tests: made once in a test run, also when several processes test."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

T = TypeVar("T")


def once(commons: Path, name: str, make: Callable[[], T]) -> T:
    """What `make` returned to the first who asked for it by this name; others wait for it.

    Args:
        commons: the fixture of that name.
        make: may use the folder `commons / name` for files that the tests read. Where it raises, it is called again.
    """
    said = commons / f"{name}.pickle"
    with FileLock(commons / f"{name}.lock"):
        if not said.exists():
            found = make()
            said.write_bytes(pickle.dumps(found))
            return found
    return pickle.loads(said.read_bytes())  # type: ignore[no-any-return]
