"""The coordinator's ends of the bridge: the bridge itself, and a worker process that is elsewhere. Imports no Ray."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from autoopt.errors import ClusterGone, WorkerError
from autoopt.trials.cluster.address import CLIENT, check, is_loopback, token_of
from autoopt.trials.cluster.allotted import PLACES
from autoopt.trials.cluster.host import SHOW
from autoopt.trials.cluster.messages import NEWS, Connect, Node, Nodes, Open, Refused
from autoopt.trials.cluster.refusals import token_refused, wrong_token
from autoopt.trials.process import Process, Reply, environment_of_worker
from autoopt.trials.protocol import Ended, Lines, Load, encode

_LEAVE_SECONDS = 10.0
_LOOK_SECONDS = 1.0
"""So often what Ray logs is read while it connects."""
_STAYS_HERE = {"AUTOOPT_TOKEN", PLACES}
"""Of our own variables those that mean nothing elsewhere, or must not be known there."""
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray takes 127.0.0.1 for this machine's outer address, where a head that listens on the loopback alone is not found."""


class Gateway:
    """The bridge process, as the coordinator holds it.

    Args:
        order: the cluster, and what is shipped to it.
        log: gets what the bridge and Ray print.

    Raises:
        UsageError: Ray is not installed, or that is no address.
        ClusterGone: nothing is at the address.
        OSError: no process could be started.
    """

    def __init__(self, order: Connect, log: Path) -> None:
        check(order.address)
        self.address = order.address
        self._lines = Lines()
        self._news: list[Nodes | Refused] = []
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        mine, theirs = socket.socketpair()
        with log.open("ab") as output, theirs:
            self._log_start = output.tell()  # a run that goes on has what an earlier cluster said in it
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "autoopt.trials.cluster.bridge", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment_of_worker(1, _variables(order.address)),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._door = mine
        mine.sendall(encode(order))
        mine.setblocking(False)

    def nodes(self) -> list[Node] | None:
        """The machines there are now, where that has changed.

        Raises:
            WorkerError: the cluster refused us, or it is gone.
        """
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while data := self._door.recv(65536):
                self._news += [NEWS.validate_json(line) for line in self._lines.feed(data)]
            if not self._news:
                raise ClusterGone(
                    f"The connection to the cluster at {self.address} has ended.",
                    f"When it is there again, go on with --resume. What Ray said is in {self._log}.",
                )
        found = None
        for news in self._news:
            if isinstance(news, Refused):
                # Why it did not connect Ray says in its log alone.
                if wrong_token(self._said()):
                    news = token_refused(self.address)
                raise (ClusterGone if news.gone else WorkerError)(news.message, news.hint)
            found = news.nodes
        self._news = []
        return found

    def first(self, seconds: float) -> list[Node]:
        """The machines there are when the bridge has connected.

        Raises:
            WorkerError: the cluster refused us, or does not answer.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            found = self.changed(min(left, _LOOK_SECONDS))
            if found is not None:
                return found
            if wrong_token(self._said()):  # Ray goes on trying for a minute
                self._process.kill()
                refused = token_refused(self.address)
                raise WorkerError(refused.message, refused.hint)
        self._process.kill()  # it waits for Ray, and not for us
        raise ClusterGone(
            f"The cluster at {self.address} did not answer in {seconds:.0f} s.",
            f"Its head is busy or another service listens there, or a larger --budget is needed. Ray's words: {self._log}.",
        )

    def changed(self, seconds: float) -> list[Node] | None:
        """As `nodes`, after waiting for news for so long at most."""
        return self.nodes() if select.select([self._door], [], [], seconds)[0] else None

    def _said(self) -> str:
        """What Ray has printed in this sitting."""
        return self._log.read_bytes()[self._log_start :].decode(errors="replace")

    def open(self, order: Open, commands: int, replies: int) -> None:
        """Has a worker started whose commands come from one pipe, and whose replies go to another."""
        socket.send_fds(self._door, [encode(order)], [commands, replies])

    def close(self, seconds: float = _LEAVE_SECONDS) -> None:
        """Leaves the cluster, at the latest after so many seconds; Ray ends what this run has there."""
        self._door.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class RemoteProcess(Process):
    """A worker on a node of the cluster; what `Process` is for one on this machine.

    Args:
        gateway: to the cluster.
        order: where, and with what.
        request: what to load.
    """

    def __init__(self, gateway: Gateway, order: Open, request: Load) -> None:
        self._tail = ""
        self._connect(lambda commands, replies: gateway.open(order, commands, replies), request)

    @property
    def pid(self) -> int:
        """None that means anything on this machine."""
        return -1

    def receive(self) -> list[Reply]:
        """What has arrived, without waiting; an `Ended` is the last reply."""
        replies = super().receive()
        if replies and isinstance(last := replies[-1], Ended):
            self._tail = last.tail
            if last.code is None and last.signal is None and not last.lost:  # the bridge is gone
                replies[-1] = last.model_copy(update={"lost": "the connection to the cluster has ended"})
        return replies

    def show_and_die(self) -> None:
        """Has the worker write the stacks of its threads to its log and die."""
        if self._commands >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._commands, SHOW)

    def reap(self, timeout: float) -> None:
        """Frees what belongs to the process on this side; the other side ends with it."""
        del timeout
        self.kill()
        if self._replies >= 0:
            os.close(self._replies)
            self._replies = -1

    def mark(self) -> None:
        """The host does this when a trial begins."""

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log, known once it has ended."""
        return "\n".join(self._tail.splitlines()[-lines:])


def _variables(address: str) -> dict[str, str]:
    """What the bridge is told over what this process has."""
    if address.startswith(CLIENT):
        return token_of(os.environ, Path.home())
    return _LOOPBACK if is_loopback(address) else {}


def variables_of(environment: Mapping[str, str]) -> dict[str, str]:
    """What of this process's environment a worker elsewhere should have: nothing of this machine's paths and devices."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith("AUTOOPT_") and name not in _STAYS_HERE
    }
