"""The table of exceptions names only what exists."""

from __future__ import annotations

import importlib
import pkgutil

from autoopt.optim.catalog import TABLE
from tests.optim import conformance
from tests.optim.conformance.cases import CASES
from tests.optim.conformance.deviations import DEVIATIONS, used


def test_every_optimizer_of_the_table_takes_part() -> None:
    assert {case.spec.name for case in CASES} == {spec.name for spec in TABLE}


def test_every_row_is_about_a_topic_and_a_case() -> None:
    for module in pkgutil.iter_modules(conformance.__path__):
        importlib.import_module(f"{conformance.__name__}.{module.name}")
    for row in DEVIATIONS:
        assert row.topic in used
        for pattern in row.cases:
            assert any(row.concerns(row.topic, case) for case in CASES), pattern


def test_no_case_stands_twice_under_a_topic() -> None:
    for topic in used:
        for case in CASES:
            assert sum(row.concerns(topic, case) for row in DEVIATIONS) <= 1, (topic, case.name)
