"""The stream of updates, as server-sent events: numbered, so that a client that was away catches up.

A stream holds no thread and no queue of its own: each reads from the one ring of updates, as fast as its client does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Protocol

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from autoopt.daemon.hub import Update
from autoopt.daemon.problems import Problem

MAX_STREAMS = 64
BEAT_SECONDS = 15.0
RECONNECT_MS = 2000
_PAUSE_SECONDS = 0.05


class Source(Protocol):
    """What the streams read from; `autoopt.daemon.service.Service` is one."""

    def updates(self, after: int | None) -> Sequence[Update]:
        """What followed `after`; never waits."""
        ...

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls `listener` from any thread at every update; returns how to end that."""
        ...


class Streams:
    """The open event streams of a daemon: a bounded number, ended together.

    Args:
        source: of the updates.
        limit: how many may be open at once.
        beat: seconds of silence after which a comment is sent, so that a dead connection is noticed.
    """

    def __init__(self, source: Source, limit: int = MAX_STREAMS, beat: float = BEAT_SECONDS) -> None:
        self._source = source
        self._limit = limit
        self._beat = beat
        self._open: set[asyncio.Event] = set()
        self._closed = False

    @property
    def count(self) -> int:
        """Streams that are open."""
        return len(self._open)

    def close(self) -> None:
        """End all of them; clients connect again on their own. To be called in the event loop."""
        self._closed = True
        for wake in self._open:
            wake.set()

    def respond(self, after: int | None) -> StreamingResponse:
        """A stream of what follows the update `after`; of all there is now, and what follows, for `None`.

        Raises:
            Problem: 503, there are too many, or the daemon ends.
        """
        if self._closed or len(self._open) >= self._limit:
            raise Problem(
                503,
                "The daemon is ending." if self._closed else f"{self._limit} event streams are open already.",
                "Try again later.",
                headers={"retry-after": "5", "connection": "close"},
            )
        wake = asyncio.Event()
        self._open.add(wake)
        return _Stream(self._lines(after, wake), lambda: self._open.discard(wake))

    async def _lines(self, after: int | None, wake: asyncio.Event) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        end = self._source.listen(lambda: _call(loop, wake))
        try:
            yield f"retry: {RECONNECT_MS}\n\n".encode()
            last = after
            while not self._closed:
                wake.clear()
                # In a thread: a reset gathers everything from the disk.
                found = await run_in_threadpool(self._source.updates, last)
                for update in found:
                    last = update.id
                    yield _event(update)
                if found or self._closed:
                    # Many updates at once are one look at the ring for each stream, and not many.
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                try:
                    await asyncio.wait_for(wake.wait(), self._beat)
                except TimeoutError:
                    yield b": beat\n\n"
        finally:
            end()


class _Stream(StreamingResponse):
    """Counts itself out however it ends, also when it never began."""

    def __init__(self, lines: AsyncIterator[bytes], ended: Callable[[], None]) -> None:
        super().__init__(lines, media_type="text/event-stream")
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


def _call(loop: asyncio.AbstractEventLoop, wake: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(wake.set)


def _event(update: Update) -> bytes:
    # One line, and in ASCII: some readers take every line break of Unicode for one.
    data = json.dumps({"job_id": update.job_id, "data": update.data})
    return f"id: {update.id}\nevent: {update.kind}\ndata: {data}\n\n".encode()


def last_id(header: str | None, query: str | None) -> int | None:
    """The update that a client has seen last; the header, which a browser sets when it reconnects, wins.

    Raises:
        Problem: 422, not a number.
    """
    given = header or query
    if not given:
        return None
    if not given.isascii() or not given.isdigit() or len(given) > 18:
        raise Problem(422, "The id of the last event is no number.", "Leave it out to get everything.")
    return int(given)
