"""A run as two CSV files: the trials, and their curves."""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path
from typing import Any

from autoopt.export import staged
from autoopt.export.rows import Columns, Row
from autoopt.export.tables import Tables


class CsvFile(Tables):
    """`trials.csv`, with `trials-curves.csv` beside it. UTF-8, RFC 4180; an unknown value is an empty cell."""

    target = "csv"

    def _write(self, path: Path, names: Columns, table: list[Row]) -> None:
        with staged.file(path) as beside, beside.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(names)
            writer.writerows([_cell(row[name]) for name in names] for row in table)


def _cell(value: Any) -> Any:
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else value
