"""No test runs for ever: one that takes too long fails and shows where it is; one that even so does not end takes its
process along, and pytest-xdist then names it.

The limits are for a hang, not for slowness: several times what the slowest test takes on a busy machine.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Generator
from types import FrameType

import pytest

SECONDS = 240.0
LONG = 480.0
"""For a test that is marked `long`."""
GRACE = 30.0
"""Seconds from the failure of a test to the end of its process, where it hangs outside Python."""

_terminal = os.dup(2)
"""Where the places of all threads are printed: standard error is pytest's while a test runs."""


class TooLong(Exception):
    """Raised in a test that is over its limit."""


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Takes standard error, which is the terminal's at this moment."""
    os.dup2(2, _terminal)
    os.set_inheritable(_terminal, False)
    config.add_cleanup(faulthandler.cancel_dump_traceback_later)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Sets the limit for a test with its fixtures."""
    limit = LONG if item.get_closest_marker("long") else SECONDS

    def over(_number: int, frame: FrameType | None) -> None:
        raise TooLong(f"it took longer than {limit:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, limit)
    faulthandler.dump_traceback_later(limit + GRACE, exit=True, file=_terminal)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()
