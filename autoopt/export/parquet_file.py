"""A run as two Parquet files: the trials, and their curves. The only file that knows pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoopt.export import staged
from autoopt.export.exported import Exported
from autoopt.export.rows import CURVES, Columns, Row, columns, curves, rows
from autoopt.export.target import needs, refuse_existing


class ParquetFile:
    """`trials.parquet`, with `trials-curves.parquet` beside it; every column has its type, also where all is unknown."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path, self.overwrite = path, overwrite
        self.curves = path.with_name(f"{path.stem}-curves{path.suffix}")

    def check(self, _run: Exported) -> None:
        """pyarrow is there, and neither file, or both may be replaced."""
        with needs("--parquet", "parquet"):
            import pyarrow.parquet  # noqa: F401
        refuse_existing([self.path, self.curves], overwrite=self.overwrite)

    def write(self, run: Exported) -> dict[str, Any]:
        """The curves first, so that a file of trials has its curves."""
        points, trials = curves(run), rows(run)
        _write(self.curves, CURVES, points)
        _write(self.path, columns(run), trials)
        return {
            "target": "parquet",
            "to": str(self.path),
            "rows": len(trials),
            "curves": str(self.curves),
            "points": len(points),
        }


def _write(path: Path, names: Columns, table: list[Row]) -> None:
    import pyarrow
    from pyarrow import parquet

    types = {
        "whole": pyarrow.int64(),
        "real": pyarrow.float64(),
        "text": pyarrow.string(),
        "time": pyarrow.timestamp("ms", tz="UTC"),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in names.items()])
    columns_ = {
        name: pyarrow.array([row[name] for row in table], type=types[kind]) for name, kind in names.items()
    }
    with staged.file(path) as beside:
        parquet.write_table(pyarrow.table(columns_, schema=schema), beside)
