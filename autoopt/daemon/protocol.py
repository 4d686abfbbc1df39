"""HTTP of a connection whose other end may be slow on purpose.

uvicorn closes a connection that is idle between requests. It waits for ever for the rest of a header, for the rest of
a body, and for somebody to read an answer; a few hundred such connections are all that a process can hold.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True)
class Patience:
    """How long a connection may take, and how many there may be."""

    header_seconds: float = 10.0
    """From the first moment of a request, or of the connection, to the end of its header."""
    body_seconds: float = 10.0
    body_bytes: int = 10_000
    """At least so many bytes of a body must arrive in so many seconds."""
    write_seconds: float = 30.0
    """Within which somebody must read what was written."""
    connections: int = 256
    look_seconds: float = 1.0
    """Between two looks at a connection."""


def patient(patience: Patience) -> type[H11Protocol]:
    """uvicorn's protocol, with an end to its patience: a connection that takes longer is cut."""

    class PatientProtocol(H11Protocol):
        _look: asyncio.TimerHandle | None = None
        _asked: float | None = None
        _unread: float | None = None
        _window: float | None = None
        _arrived = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > patience.connections:
                transport.abort()
                return
            self._asked = self.loop.time()
            self._look_later()

        def data_received(self, data: bytes) -> None:
            if self._asked is None and self.conn.their_state is h11.IDLE:
                self._asked = self.loop.time()
            self._arrived += len(data)
            super().data_received(data)
            self._note()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._note()

        def pause_writing(self) -> None:
            self._unread = self.loop.time()
            super().pause_writing()

        def resume_writing(self) -> None:
            self._unread = None
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._look is not None:
                self._look.cancel()
            super().connection_lost(exc)

        def _note(self) -> None:
            if self.conn.their_state is not h11.IDLE:
                self._asked = None

        def _look_later(self) -> None:
            self._look = self.loop.call_later(patience.look_seconds, self._look_now)

        def _look_now(self) -> None:
            now = self.loop.time()
            if self._too_slow(now):
                self.transport.abort()
            else:
                self._look_later()

        def _too_slow(self, now: float) -> bool:
            if self._asked is not None and now - self._asked > patience.header_seconds:
                return True
            if self._unread is not None and now - self._unread > patience.write_seconds:
                return True
            # While reading is paused it is the app that is slow.
            if self.conn.their_state is not h11.SEND_BODY or self.flow.read_paused:
                self._window = None
            elif self._window is None:
                self._window, self._arrived = now, 0
            elif now - self._window > patience.body_seconds:
                slow = self._arrived < patience.body_bytes
                self._window, self._arrived = now, 0
                return slow
            return False

    return PatientProtocol
