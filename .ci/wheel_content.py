"""Checks that a wheel holds what the package reads at run time: `python wheel_content.py WHEEL`."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def expected() -> set[str]:
    """Every file of the package, and the policies, which are shipped inside it."""
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "autoopt").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    policies = {f"autoopt/{path.relative_to(ROOT)}" for path in (ROOT / "policies").rglob("*.yaml")}
    return package | policies


if __name__ == "__main__":
    missing = sorted(expected() - set(zipfile.ZipFile(sys.argv[1]).namelist()))
    if missing:
        sys.exit("The wheel lacks " + ", ".join(missing))
    print(f"The wheel holds all {len(expected())} files.")
