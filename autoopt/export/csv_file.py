"""A run as two CSV files: the trials, and their curves."""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path
from typing import Any

from autoopt.export import staged
from autoopt.export.exported import Exported
from autoopt.export.rows import CURVES, Columns, Row, columns, curves, rows
from autoopt.export.target import refuse_existing


class CsvFile:
    """`trials.csv`, with `trials-curves.csv` beside it. UTF-8, RFC 4180; an unknown value is an empty cell."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path, self.overwrite = path, overwrite
        self.curves = path.with_name(f"{path.stem}-curves{path.suffix}")

    def check(self, _run: Exported) -> None:
        """Neither file is there, or both may be replaced."""
        refuse_existing([self.path, self.curves], overwrite=self.overwrite)

    def write(self, run: Exported) -> dict[str, Any]:
        """The curves first, so that a file of trials has its curves."""
        points, trials = curves(run), rows(run)
        _write(self.curves, CURVES, points)
        _write(self.path, columns(run), trials)
        return {
            "target": "csv",
            "to": str(self.path),
            "rows": len(trials),
            "curves": str(self.curves),
            "points": len(points),
        }


def _write(path: Path, names: Columns, table: list[Row]) -> None:
    with staged.file(path) as beside, beside.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        writer.writerows([_cell(row[name]) for name in names] for row in table)


def _cell(value: Any) -> Any:
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else value
