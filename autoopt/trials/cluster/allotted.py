"""What a run may use of a cluster that it shares with others: so many trials on each machine, told in a file that changes.

Whoever shares the cluster out (the daemon) writes `ALLOTTED`, and may do so again at any time; the run gives back what is
more than that as its trials end, takes what has been added, and tells in `HELD` what it has. Ray still counts what is taken.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from autoopt.errors import RunError
from autoopt.records import Record

PLACES = "AUTOOPT_CLUSTER_PLACES"
"""Environment variable: the folder of both files. Without it a run may use all of a cluster."""
ALLOTTED = "places-allotted.json"
HELD = "places-held.json"


class Allotment(Record):
    """Trials at once on each machine, and the kind of device that all of them have."""

    kind: str
    places: dict[str, int] = Field(description="machine, by Ray's id -> trials at once")
    machines: dict[str, str] = Field(
        default={}, description="all of the cluster -> kind, so that none is asked"
    )


class Held(Record):
    """What a run has: its slots on each machine, and those of them whose worker has loaded, so that Ray counts them."""

    places: dict[str, int] = Field(default={})
    loaded: dict[str, int] = Field(default={})


class Allotted:
    """The run's side of the two files.

    Args:
        folder: where they are.

    Raises:
        RunError: `ALLOTTED` is not there, or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp = (0, 0)
        self._told = Held()
        self.now = self._read()

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Allotted | None:
        """Of a run whose environment says so; `None`: it may use all there is."""
        folder = environment.get(PLACES)
        return cls(Path(folder)) if folder else None

    def changed(self) -> bool:
        """Whether `now` is another one than before."""
        stamp = self._stamped()
        if stamp == self._stamp:
            return False
        before, self.now = self.now, self._read()
        return self.now != before

    def tell(self, places: Counter[str], loaded: Counter[str]) -> None:
        """Write down what the run has, if that is something new."""
        held = Held(places=dict(sorted(places.items())), loaded=dict(sorted(loaded.items())))
        if held != self._told:
            write(self._folder / HELD, held)
            self._told = held

    def _read(self) -> Allotment:
        path = self._folder / ALLOTTED
        try:
            self._stamp = self._stamped()
            return Allotment.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise RunError(
                f"{path} does not say what may be used of the cluster: {error}.",
                f"The daemon writes it; to use all of a cluster, unset {PLACES}.",
            ) from error

    def _stamped(self) -> tuple[int, int]:
        status = (self._folder / ALLOTTED).stat()
        return status.st_ino, status.st_mtime_ns


def write(path: Path, record: Record) -> None:
    """Atomically. Not flushed to the disk: what was true before a power cut is of no use after it.

    Raises:
        OSError: it could not be written; what was there is whole.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.write_text(json.dumps(record.model_dump(mode="json")))
    beside.replace(path)


def read_held(folder: Path) -> Held:
    """What a run has told; nothing when it has not told anything yet."""
    try:
        return Held.model_validate_json((folder / HELD).read_bytes())
    except (FileNotFoundError, ValidationError):
        return Held()
