"""A run as two files of rows, whatever their format: the trials, and their curves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from autoopt.export.exported import Exported
from autoopt.export.rows import CURVES, Columns, Row, columns, curves, rows
from autoopt.export.target import refuse_existing


class Tables(ABC):
    """`NAME.EXT`, with `NAME-curves.EXT` beside it."""

    target: ClassVar[str]

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path, self.overwrite = path, overwrite
        self.curves = path.with_name(f"{path.stem}-curves{path.suffix}")

    def check(self, _run: Exported) -> None:
        """Neither file is there, or both may be replaced."""
        refuse_existing([self.path, self.curves], overwrite=self.overwrite)

    def write(self, run: Exported) -> dict[str, Any]:
        """The curves first, so that a file of trials has its curves."""
        points, trials = curves(run), rows(run)
        self._write(self.curves, CURVES, points)
        self._write(self.path, columns(run), trials)
        return {
            "target": self.target,
            "to": str(self.path),
            "rows": len(trials),
            "curves": str(self.curves),
            "points": len(points),
        }

    @abstractmethod
    def _write(self, path: Path, names: Columns, table: list[Row]) -> None:
        """One file, whole or not at all."""
