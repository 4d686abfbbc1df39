"""The shipped data is what its sources hold, and says where it is from."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parents[2] / "examples" / "data"
DIGESTS = {
    "digits.csv.gz": "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8",
    "flights.csv.gz": "7d687ba119a394ce06860ce7ddc04e148aa82275d1f31fb56d36fccf6c5f60b8",
}


@pytest.mark.parametrize(("name", "digest"), DIGESTS.items())
def test_content_is_unchanged(name: str, digest: str) -> None:
    assert hashlib.sha256(gzip.decompress((DATA / name).read_bytes())).hexdigest() == digest


@pytest.mark.parametrize("name", DIGESTS)
def test_source_and_licence_are_named(name: str) -> None:
    row = next(line for line in (DATA / "README.md").read_text().splitlines() if f"`{name}`" in line)
    assert "CC" in row.split("|")[-2]


def test_nothing_is_shipped_without_a_digest() -> None:
    assert {path.name for path in DATA.glob("*.gz")} == set(DIGESTS)


def test_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    ours = np.loadtxt(DATA / "digits.csv.gz", delimiter=",")
    np.testing.assert_array_equal(ours, np.column_stack([images, labels]))
