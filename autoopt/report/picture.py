"""The README's picture: `python -m autoopt.report.picture RUN_FOLDER picture.svg`."""

from __future__ import annotations

import sys
from pathlib import Path

from autoopt.files import write_text
from autoopt.report import recipe
from autoopt.report.console import svg


def main(arguments: list[str]) -> None:
    """Renders a run's final report into an SVG file."""
    if len(arguments) != 2:
        sys.exit("usage: python -m autoopt.report.picture RUN_FOLDER picture.svg")
    rec = recipe.load(arguments[0])
    write_text(Path(arguments[1]), svg(rec, title=f"autoopt profile {Path(rec.workload.target).name}"))


if __name__ == "__main__":
    main(sys.argv[1:])
