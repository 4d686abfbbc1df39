from __future__ import annotations

import math

import pytest

from benchmarks.optimizers import (
    Claim,
    Line,
    interleaved,
    markdown,
    quartiles,
    ratio,
    resnet18,
    transformer,
    verdict,
)


def line(ours: list[float], limit: float | None = 2.0) -> Line:
    return Line("net", Claim("Adan", "AdamW", limit), ours, [1.0] * len(ours))


def test_one_disturbed_repetition_moves_no_ratio() -> None:
    assert ratio([3.0, 3.0, 90.0], [2.0, 2.0, 2.0]) == 1.5
    assert ratio([3.0, 3.0, 3.0], [2.0, 40.0, 2.0]) == 1.5


def test_a_slow_round_cancels_in_the_ratio() -> None:
    assert ratio([3.0, 30.0, 60.0], [2.0, 20.0, 40.0]) == 1.5


def test_the_spread_is_of_the_rounds_ratios_so_drift_of_both_cancels() -> None:
    assert quartiles([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("ours", "limit", "expected"),
    [
        ([1.5, 1.5, 1.5], 2.0, "Meets the figure."),
        ([2.0, 2.0, 2.0], 2.0, "Meets the figure."),
        ([1.5, 1.9, 2.5], 2.0, "Meets the figure, but the quartiles lie on both sides of it."),
        ([3.0, 3.0, 3.0], 2.0, "Misses the figure by 50%."),
        ([1.5, 2.2, 2.5], 2.0, "Misses the figure by 10%, but the quartiles lie on both sides of it."),
        ([3.0, 3.0, 3.0], None, "No figure was set for this one."),
    ],
)
def test_the_verdict_follows_the_ratio(ours: list[float], limit: float | None, expected: str) -> None:
    assert verdict(line(ours, limit)) == expected


def test_the_row_has_times_ratio_figure_and_verdict() -> None:
    head, rule, row = markdown([line([0.5, 0.5, 0.5])]).splitlines()
    assert head.count("|") == rule.count("|") == row.count("|")
    assert row == (
        "| net | Adan | AdamW | 500 / 1e+03 | 0.50 (0.50 to 0.50) | at most 2 | Meets the figure. |"
    )


def test_contenders_take_turns_and_the_first_round_is_not_counted() -> None:
    calls: list[str] = []
    contenders = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = interleaved(contenders, steps=2, rounds=2)
    assert "".join(calls) == "aabb" + "bbaa" + "aabb"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_the_shapes_are_those_of_the_published_nets() -> None:
    assert sum(map(math.prod, transformer(12, 768, 50257, 1024))) == 124_439_808
    assert sum(map(math.prod, resnet18())) == 11_689_512
