"""What systemd wants to hear of a service of `Type=notify` (see sd_notify(3)); nothing where there is none."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress


class Notifier:
    """Tells systemd how the daemon is.

    Args:
        environment: taken out of it are the variables that are meant for this process alone.
    """

    def __init__(self, environment: MutableMapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        self._address = variables.pop("NOTIFY_SOCKET", "")
        watched = variables.pop("WATCHDOG_USEC", "")
        process = variables.pop("WATCHDOG_PID", "")
        ours = not process or process == str(os.getpid())
        self.watchdog_seconds: float | None = int(watched) / 1e6 if watched.isdigit() and ours else None
        """Within which systemd wants a sign of life."""

    def tell(self, *lines: str) -> None:
        """Send e.g. "READY=1". That systemd does not listen is no reason to end."""
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(address)
            sender.send("\n".join(lines).encode())
