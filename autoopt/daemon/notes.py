"""What the daemon says to whoever started it and to whoever asks how it is: notes, and the trouble of its last round."""

from __future__ import annotations

import sys
from collections.abc import Callable

_KEPT = 100
_AT_ONCE = 3


class Notes:
    """Written by the loop, read by any thread.

    Args:
        say: takes what whoever started the daemon should know; to standard error unless given.
    """

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say or _to_stderr
        self._found: list[str] = []
        self.told: list[str] = []
        """The last notes, the oldest first."""
        self.trouble = ""
        """Of the last round; empty when there was none."""

    def say(self, text: str) -> None:
        """A note: it is said once, and kept."""
        self.told.append(text)
        del self.told[:-_KEPT]
        self._say(text)

    def found(self, text: str) -> None:
        """A trouble of this round of the loop."""
        self._found.append(text)

    def end_round(self) -> None:
        """What was found in this round is the trouble now, and that of the round before is over."""
        found, self._found = self._found, []
        self.in_trouble("; ".join(found[:_AT_ONCE]))

    def in_trouble(self, text: str) -> None:
        """The trouble now, empty for none; said when it is a new one."""
        if text not in ("", self.trouble):
            self._say(text)
        self.trouble = text


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
