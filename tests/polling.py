"""Waiting for what another process does."""

from __future__ import annotations

import time
from collections.abc import Iterator


def looks(patience: float, first: float = 0.01, last: float = 0.2) -> Iterator[None]:
    """A turn for each look at what is awaited, until the patience is over.

    Looking costs time that what is awaited could use, as both share a core: the longer it has taken, the rarer the looks,
    so that none is later than a twentieth of the waiting.

    Args:
        patience: seconds; the iterator ends after them.
        first: seconds between the first two looks.
        last: at most so many seconds between two.
    """
    begin = time.monotonic()
    while (waited := time.monotonic() - begin) < patience:
        yield
        time.sleep(min(last, max(first, waited / 20)))
    yield  # a last look, however long the one before took
