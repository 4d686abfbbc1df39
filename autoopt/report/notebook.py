"""A run's progress in a notebook's cell: one display that is brought up to date in place.

IPython is used where it is loaded already, and is never imported by us. (rich would show a `Live` in Jupyter by
ipywidgets, which is another package and shows nothing in a notebook that was saved.)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from autoopt.records import Event, RunEnded, RunResumed, RunStarted
from autoopt.report.watch import Watch, label
from autoopt.report.words import duration, number
from autoopt.trials.runner import Progress

if TYPE_CHECKING:
    from jinja2 import Template

_PAUSE = 0.25
"""Seconds between two updates: each is a message to the browser, and a screen shows no more."""
_NOTED = ("workload_loaded", "prior_taken", "noted", "run_resumed")


def inside() -> bool:
    """Whether this process runs the cells of a notebook (a kernel of IPython; not its terminal)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def shown() -> Iterator[View]:
    """An observer whose display stays in the cell, with the last state of the run."""
    view = View()
    try:
        yield view
    finally:
        view.close()


class View:
    """The observer: what a run tells, as HTML, and as plain words for who shows no HTML."""

    def __init__(self) -> None:
        self._watch = Watch()
        self._notes: list[str] = []
        self._handle: Any = None
        self._due = 0.0
        self._began = time.monotonic()
        self._over = False
        self._show()

    def event(self, event: Event) -> None:
        """Notes and warnings stay below the state."""
        lines = self._watch.event(event)
        if isinstance(event, RunStarted | RunResumed):
            spent = event.spent_seconds if isinstance(event, RunResumed) else 0.0
            self._began = time.monotonic() - spent
        if isinstance(event, RunEnded):
            self._watch.elapsed = event.spent_seconds
        if event.kind in _NOTED:
            self._notes += lines
        self._show()

    def progress(self, progress: Progress) -> None:
        """A trial moved on."""
        self._watch.progress(progress)
        self._show()

    def tick(self, elapsed: float) -> None:
        """Time passed."""
        self._watch.elapsed = elapsed
        self._show()

    def close(self) -> None:
        """The last state, whenever the one before was shown."""
        self._over, self._due = True, 0.0
        self._show()

    def _show(self) -> None:
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _PAUSE
        words = self._words()
        data = {
            "text/html": self._html(words),
            "text/plain": "  ".join(word for word in words.values() if word),
        }
        if self._handle is None:
            self._handle = sys.modules["IPython"].display.display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    def _words(self) -> dict[str, str]:
        watch = self._watch
        if watch.plan is None and not self._over:  # nothing ticks while the user's code is loaded
            watch.elapsed = time.monotonic() - self._began
        count = str(watch.done) if self._over else f"{watch.done} of {watch.total}"
        failed = f", {watch.failed} failed" if watch.failed else ""
        spent = (
            f"after {duration(round(watch.elapsed))}" if self._over else f"{duration(round(watch.left))} left"
        )
        return {
            # Whoever ends before the run could say so has an error below, which says it.
            "stage": "ended" if self._over and watch.stage in ("loading", "planning") else watch.stage,
            "trials": f"{count} trial{'' if count == '1' else 's'}{failed}" if watch.plan else "",
            "time": spent if watch.budget else "",
            "best": f"best {watch.best_words()}" if watch.best else "",
        }

    def _html(self, words: dict[str, str]) -> str:
        watch = self._watch
        slots = [] if self._over else sorted(watch.slots.items())
        return _template().render(
            words=words,
            over=self._over,
            share=min(1.0, watch.elapsed / watch.budget) if watch.budget else 0.0,
            slots=[
                (number_, label(slot.spec), slot.step, slot.spec.steps, number(slot.loss))
                for number_, slot in slots
            ],
            plan=watch.plan,
            notes=self._notes,
        )


def _template() -> Template:
    from autoopt.report.templating import page  # not at the top: a terminal needs none of it

    return page("progress.html.j2")
