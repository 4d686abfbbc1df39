"""Numbers in words."""

from __future__ import annotations

import pytest

from autoopt.recommend.numbers import words


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "?"), (0.0, "0"), (-0.0, "0"), (-0.25, "-0.25"), (0.123456, "0.1235")],
)
def test_words(value: float | None, text: str) -> None:
    assert words(value) == text
