"""A cluster as the daemon sees it: asked by a bridge of its own, again and again, since both may go and come back.

Nothing here waits for Ray: a thread holds the bridge, and what it was told last can be read at any time.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autoopt.errors import AutooptError, ClusterGone
from autoopt.trials.cluster.messages import Connect, Node
from autoopt.trials.cluster.remote import Gateway

_TICK = 0.5
_CONNECT_SECONDS = 60.0
_PAUSE = 2.0
_LONGEST_PAUSE = 30.0
"""Between attempts: each starts a process that loads Ray."""
_LEAVE_SECONDS = 1.0
"""A bridge that only looks has nothing on the cluster, and one that is still connecting does not hear."""


@dataclass(frozen=True)
class Sight:
    """What was seen last. `trouble` says why there is no cluster; empty also while nobody has answered yet."""

    nodes: tuple[Node, ...] = ()
    trouble: str = ""
    there: bool = False


class Lookout:
    """Looks at a cluster from `start` to `stop`.

    Args:
        address: auto, HOST:PORT or ray://HOST:PORT.
        log: gets what Ray prints, of the last attempt.
        wake: called when something has changed.
        connect: for tests.
    """

    def __init__(
        self,
        address: str,
        log: Path,
        wake: Callable[[], None],
        connect: Callable[[Connect, Path], Gateway] = Gateway,
    ) -> None:
        self._order = Connect(address=address, folder="", looks=True)
        self._log, self._wake, self._connect = log, wake, connect
        self._sight = Sight()
        self._ending, self._doubted = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._go, name="autoopt-cluster", daemon=True)

    @property
    def sight(self) -> Sight:
        """What was seen last; for any thread."""
        return self._sight

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Leave the cluster."""
        self._ending.set()
        self._doubted.set()
        if self._thread.is_alive():
            self._thread.join(_LEAVE_SECONDS + 2 * _TICK)

    def doubt(self) -> None:
        """Somebody has lost the cluster: what was seen counts no more until it has been reached anew."""
        self._see(Sight(trouble="a job lost its connection to it"))
        self._doubted.set()

    def _go(self) -> None:
        pause = _PAUSE
        while not self._ending.is_set():
            self._doubted.clear()
            try:
                with contextlib.suppress(OSError):
                    self._log.unlink(missing_ok=True)
                self._look()
                pause = _PAUSE
                continue
            except (AutooptError, OSError) as error:
                pause = _PAUSE if self._sight.there else min(2 * pause, _LONGEST_PAUSE)
                self._see(Sight(trouble=error.message if isinstance(error, AutooptError) else str(error)))
            except Exception as error:  # whatever a bridge says, the daemon looks again
                pause = min(2 * pause, _LONGEST_PAUSE)
                self._see(Sight(trouble=f"{type(error).__name__}: {error}"))
            self._ending.wait(pause)

    def _look(self) -> None:
        """Until the end, or a doubt. Raises: ClusterGone and what else a gateway raises."""
        gateway = self._connect(self._order, self._log)
        try:
            deadline: float | None = time.monotonic() + _CONNECT_SECONDS
            while not self._doubted.is_set():
                nodes = gateway.changed(_TICK)
                if nodes is not None:
                    deadline = None
                    self._see(Sight(tuple(nodes), there=True))
                elif deadline is not None and time.monotonic() > deadline:
                    raise ClusterGone(f"The cluster did not answer in {_CONNECT_SECONDS:.0f} s.")
        finally:
            gateway.close(_LEAVE_SECONDS)

    def _see(self, sight: Sight) -> None:
        if sight != self._sight:
            self._sight = sight
            self._wake()
