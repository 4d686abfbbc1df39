"""The order of long tests: what ends soon comes first, so that a run that is cut off has lost the fewest."""

from __future__ import annotations

import os

import pytest

USUAL = 8.0
"""Seconds of a long test whose mark names none."""


def seconds(item: pytest.Item) -> float:
    """About how long a test takes on two idle cores, as `@pytest.mark.long(seconds=60)` says; 0 for the others."""
    mark = item.get_closest_marker("long")
    return 0.0 if mark is None else float(mark.kwargs.get("seconds", USUAL))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All others as they are; then the long ones by their length."""
    items.sort(key=seconds)


@pytest.hookimpl(trylast=True, specname="pytest_collection_modifyitems")
def pytest_deal(items: list[pytest.Item]) -> None:
    """Of long tests alone, each process of pytest-xdist gets short ones first, and as much to do as the others.

    It gives each a stretch of the list, equally long. So the tests are dealt like cards, the members of an `xdist_group`
    to one hand: they wait for what one of them makes, and a process that waits does nothing.
    """
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if count < 2 or not all(map(seconds, items)):  # after -m has chosen
        return
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        mark = item.get_closest_marker("xdist_group")
        groups.setdefault(str(mark.args[0]) if mark and mark.args else item.nodeid, []).append(item)
    hands: list[list[pytest.Item]] = [[] for _ in range(count)]
    for group in sorted(groups.values(), key=lambda group: sum(map(seconds, group))):
        min(hands, key=len).extend(group)
    items[:] = [item for hand in hands for item in hand]
