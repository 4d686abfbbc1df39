"""The page's numbers read like the report's."""

from __future__ import annotations

import itertools

import pytest
from playwright.sync_api import Page

from autoopt.records import Band, Expected
from autoopt.report import words

pytestmark = pytest.mark.long

VALUES = [
    0.0,
    1e-9,
    2.4e-6,
    0.00012345,
    0.001,
    0.118412,
    0.5,
    1.0,
    12.0,
    59.96,
    99.96,
    100.0,
    151.4,
    999.9,
    1234.56,
]
VALUES += [5999.0, 6001.0, 7300.0, 63366.3, 142928.0, 999_999.0, 1e6, 4.2e9, 3e12, -0.25, -1500.0]


def test_numbers_are_written_as_in_the_report(modules: Page) -> None:
    found = modules.evaluate(
        """async (values) => {
          const w = await import("/static/words.js");
          const all = [null, ...values];
          return {
            number: all.map((v) => w.number(v)), two: all.map((v) => w.number(v, 2)),
            scaled: all.map((v) => w.scaled(v, "B")), duration: all.map((v) => w.duration(v)),
          };
        }""",
        VALUES,
    )
    every = [None, *VALUES]
    assert found["number"] == [words.number(v) for v in every]
    assert found["two"] == [words.number(v, 2) for v in every]
    assert found["scaled"] == [words.scaled(v, "B") for v in every]
    assert found["duration"] == [words.duration(v) for v in every]


def test_intervals_and_promises_are_written_as_in_the_report(modules: Page) -> None:
    common = {
        "metric": None,
        "steps": 10,
        "seeds": 1,
        "step_seconds": None,
        "samples_per_second": None,
        "state_bytes": None,
    }
    expected = [
        Expected(loss=loss, low=low, high=high, peak_bytes=None, **common)  # type: ignore[arg-type]
        for loss, (low, high) in itertools.product((None, 2.246), ((None, None), (1.963, 2.5701)))
    ]
    bands = [
        Band(of="training loss", share=0.01, begin=0, step=4, low=4.491, high=5.2),
        Band(of="training loss", share=1.0, begin=0, step=400, low=2.04, high=2.25),
        Band(of="validation loss", share=1.0, begin=0, step=400, low=2.15, high=2.34),
    ]
    found = modules.evaluate(
        """async ([expected, bands]) => {
          const w = await import("/static/words.js");
          return [expected.map(w.interval), w.interval(null), w.promised(bands)];
        }""",
        [[e.model_dump() for e in expected], [b.model_dump() for b in bands]],
    )
    assert found == [[words.interval(e) for e in expected], words.interval(None), words.promised(bands)]
