"""What the loop sleeps on: a call of `wake` from any thread, the end of a guard, or a moment that has passed."""

from __future__ import annotations

import contextlib
import os
import selectors

from autoopt.daemon.guarded import Guarded

_TICK = 0.5


class Waking:
    """One thread waits, any thread wakes it."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._selector.register(self._read, selectors.EVENT_READ)

    def wait(self) -> None:
        """Until there is something to do; half a second at most."""
        # A disk that was full a moment ago is asked again soon, not at once and for ever.
        for key, _ in self._selector.select(_TICK):
            if key.fd == self._read:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._read, 4096)

    def wake(self) -> None:
        """Have `wait` return. Harmless when nobody waits, or after `close`."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._write, b".")

    def watch(self, guard: Guarded) -> None:
        """Wake at the end of a guard, where the system can tell."""
        if guard.descriptor >= 0:
            self._selector.register(guard.descriptor, selectors.EVENT_READ)

    def forget(self, guard: Guarded) -> None:
        """Its end is known. Doing it twice is harmless."""
        if guard.descriptor >= 0:
            with contextlib.suppress(KeyError):
                self._selector.unregister(guard.descriptor)

    def close(self) -> None:
        """When nobody waits any more."""
        self._selector.close()
        os.close(self._read)
        os.close(self._write)
