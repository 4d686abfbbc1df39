"""The daemon's own log: to standard error, without what must stay secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

_SECRETS = re.compile(r"(?i)(/login/|bearer\s+|cookie:?\s*)[^\s\"']+")


class Discreet(logging.Formatter):
    """Leaves out secrets wherever they stand, in tracebacks too.

    Nothing here writes one into the log on purpose: requests are not logged, and errors name a route's pattern. This is
    for the message of an error that repeats what it was given.

    Args:
        secrets: known ones.
    """

    def __init__(self, secrets: Collection[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._known = [secret for secret in secrets if secret]

    def format(self, record: logging.LogRecord) -> str:
        """A line, or several with a traceback."""
        text = _SECRETS.sub(r"\1...", super().format(record))
        for secret in self._known:
            text = text.replace(secret, "...")
        return text


@contextmanager
def to_stderr(secrets: Collection[str] = ()) -> Iterator[None]:
    """Everything that libraries and the daemon log goes to standard error, until the block ends."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Discreet(secrets))
    root, ours = logging.getLogger(), logging.getLogger("autoopt")
    before = root.handlers[:], root.level, ours.level
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])
