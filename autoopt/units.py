"""Durations and sizes as people write them."""

from __future__ import annotations

import re

from autoopt.errors import BudgetError, UsageError

_SECONDS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)")


def parse_duration(text: str | float) -> float:
    """Seconds of "90s", "5m", "1h30m", "1.5h" or a number.

    Raises:
        BudgetError: not a duration, or not above zero.

    >>> parse_duration("1h30m"), parse_duration(90), parse_duration("2.5 min")
    (5400.0, 90.0, 150.0)
    """
    hint = "Write it like 90s, 5m or 1h30m."
    if isinstance(text, int | float):
        seconds = float(text)
    else:
        rest, seconds = text.strip().lower(), 0.0
        if re.fullmatch(r"\d+(\.\d+)?", rest):
            raise BudgetError(f"A budget of {text!r} has no unit.", hint)
        if not rest:
            raise BudgetError("The budget is empty.", hint)
        while rest:
            part = _PART.match(rest)
            if part is None or part[2] not in _SECONDS:
                raise BudgetError(f"{text!r} is not a duration.", hint)
            seconds += float(part[1]) * _SECONDS[part[2]]
            rest = rest[part.end() :].strip()
    if not 0 < seconds < 1e9:
        raise BudgetError(f"A budget of {text!r} is not a time that can be spent.", hint)
    return seconds


def parse_bytes(text: str | int) -> int:
    """Bytes of "8GB", "512MiB" or a number.

    Raises:
        UsageError: not a size.

    >>> parse_bytes("8GB"), parse_bytes("1.5GiB")
    (8000000000, 1610612736)
    """
    if isinstance(text, int):
        return text
    part = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = (part[2] or "B").upper() if part else ""
    if part is None or unit not in _BYTES:
        raise UsageError(f"{text!r} is not a size in bytes.", "Write it like 8GB or 512MiB.")
    return int(float(part[1]) * _BYTES[unit])


def parse_seconds(text: str | float) -> float:
    """Seconds of "0.2s", "200ms", "150us" or a number: the time of a step.

    Raises:
        UsageError: not a time, or not above zero.

    >>> parse_seconds("200ms"), parse_seconds("0.2 s"), parse_seconds(0.5)
    (0.2, 0.2, 0.5)
    """
    if isinstance(text, int | float):
        seconds = float(text)
    else:
        part = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|m|min)\s*", text)
        if part is None:
            raise UsageError(f"{text!r} is not the time of a step.", "Write it like 0.2s or 200ms.")
        seconds = float(part[1]) * {"us": 1e-6, **_SECONDS}[part[2]]
    if seconds <= 0:
        raise UsageError("a step time is above zero.", "Write it like 0.2s or 200ms.")
    return seconds


def show_bytes(value: float) -> str:
    """Bytes with three digits in decimal units.

    >>> show_bytes(85_520_809_984), show_bytes(-1500), show_bytes(12)
    ('85.5 GB', '-1.5 kB', '12 B')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"
