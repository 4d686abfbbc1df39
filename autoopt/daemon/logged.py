"""The daemon's own log: to standard error, without what must stay secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Collection
from typing import TextIO

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


def set_up(secrets: Collection[str] = (), stream: TextIO | None = None) -> None:
    """Everything that libraries and the daemon log goes to `stream`, standard error unless given."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Discreet(secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("autoopt").setLevel(logging.INFO)
