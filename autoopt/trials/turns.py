"""Runs somebody's blocking loop as a generator: theirs and ours take turns in one thread.

A foreign training loop (a Lightning Trainer's, a user's own) runs from its begin to its end and can only call back; a
trial is a generator that is advanced step by step. A greenlet has a stack of its own in the same thread, so the loop is
halted inside its callback and goes on when the next item is wanted: the CUDA device, autograd's modes and signal
handlers, which belong to a thread, stay as they are.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from greenlet import greenlet

T = TypeVar("T")


def in_turns(work: Callable[[Callable[[T], None]], Any]) -> Generator[T, None, None]:
    """What `work(report)` reports, as it reports it.

    Exceptions of `work` come out of `next()`. Closing the generator raises `greenlet.GreenletExit` (a BaseException)
    inside `report`, so that the loop's own clean-up runs.

    Args:
        work: called once, at the first `next()`, with the function that takes its items.

    >>> def loop(report):
    ...     for step in range(3):
    ...         report(step)
    >>> list(in_turns(loop))
    [0, 1, 2]
    """

    def report(item: T) -> None:
        parent = worker.parent
        assert parent is not None
        parent.switch(item)

    worker = greenlet(lambda: work(report))
    worker.gr_context = contextvars.copy_context()  # else it begins with an empty one
    try:
        while True:
            worker.parent = greenlet.getcurrent()
            item = worker.switch()
            if worker.dead:
                return
            yield item
    finally:
        if worker and not worker.dead:
            worker.parent = greenlet.getcurrent()
            worker.throw()
