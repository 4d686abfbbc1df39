"""A run as two Parquet files: the trials, and their curves. The only file that knows pyarrow."""

from __future__ import annotations

from pathlib import Path

from autoopt.export import staged
from autoopt.export.exported import Exported
from autoopt.export.rows import Columns, Row
from autoopt.export.tables import Tables
from autoopt.export.target import needs


class ParquetFile(Tables):
    """`trials.parquet`, with `trials-curves.parquet` beside it; every column has its type, also where all is unknown."""

    target = "parquet"

    def check(self, run: Exported) -> None:
        """pyarrow is there, and neither file, or both may be replaced."""
        with needs("--parquet", "parquet"):
            import pyarrow.parquet  # noqa: F401
        super().check(run)

    def _write(self, path: Path, names: Columns, table: list[Row]) -> None:
        import pyarrow
        from pyarrow import parquet

        types = {
            "whole": pyarrow.int64(),
            "real": pyarrow.float64(),
            "text": pyarrow.string(),
            "time": pyarrow.timestamp("ms", tz="UTC"),
        }
        schema = pyarrow.schema([(name, types[kind]) for name, kind in names.items()])
        columns = {
            name: pyarrow.array([row[name] for row in table], type=types[kind])
            for name, kind in names.items()
        }
        with staged.file(path) as beside:
            parquet.write_table(pyarrow.table(columns, schema=schema), beside)
