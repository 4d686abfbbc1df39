from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.errors import BudgetError, UsageError
from autoopt.units import parse_bytes, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        (" 1 h 30 min ", 5400.0),
        ("1.5H", 5400.0),
        ("250ms", 0.25),
        ("2d", 172_800.0),
        (12, 12.0),
        (0.5, 0.5),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("60", "has no unit"),
        ("", "is empty"),
        ("  ", "is empty"),
        ("soon", "is not a duration"),
        ("5m later", "is not a duration"),
        ("-5m", "is not a duration"),
        ("5y", "is not a duration"),
        ("nan", "is not a duration"),
        ("0s", "not a time that can be spent"),
        (-1, "not a time that can be spent"),
        (float("nan"), "not a time that can be spent"),
        (float("inf"), "not a time that can be spent"),
        ("999999999h", "not a time that can be spent"),
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(text: str | float, told: str) -> None:
    with pytest.raises(BudgetError, match=told) as caught:
        parse_duration(text)
    assert "1h30m" in caught.value.hint


@given(st.integers(0, 99), st.integers(0, 59), st.integers(1, 59))
def test_parts_of_a_duration_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == 3600 * hours + 60 * minutes + seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * 10**9),
        ("512MiB", 512 * 2**20),
        ("1.5 gib", 3 * 2**29),
        ("100", 100),
        (7, 7),
        ("2kB", 2000),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "8 G B", "-8GB", "8GBs", "8XB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_bytes(text)
