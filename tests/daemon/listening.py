"""The daemon's server in a thread of the test, on a service in memory."""

from __future__ import annotations

import http.client
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autoopt.daemon.home import Home
from autoopt.daemon.protocol import Patience
from autoopt.daemon.server import Serving, Settings, serve
from autoopt.daemon.sockets import Address
from tests.daemon.fakes import FakeService

PATIENCE = 60.0


class Listening:
    """A server that answers."""

    def __init__(self, home: Home, service: Any, serving: Serving) -> None:
        self.home = home
        self.service = service
        self.serving = serving
        self.token = home.token.read_text().strip() if home.token.exists() else ""

    @property
    def port(self) -> int:
        """Of TCP."""
        assert self.serving.url is not None
        return int(self.serving.url.rpartition(":")[2])

    def connect(self) -> socket.socket:
        """A TCP connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Over TCP, with the token."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers={"authorization": f"Bearer {self.token}", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def head(self, method: str, path: str, *more: str) -> bytes:
        """The header of a request with the token, up to the last line but the empty one."""
        lines = [
            f"{method} {path} HTTP/1.1",
            f"host: 127.0.0.1:{self.port}",
            f"authorization: Bearer {self.token}",
            *more,
        ]
        return "".join(f"{line}\r\n" for line in lines).encode()


@contextmanager
def listening(
    folder: Path,
    patience: Patience | None = None,
    *,
    tcp: bool = True,
    service: Any = None,
    **more: Any,
) -> Iterator[Listening]:
    """Serve until the block ends."""
    home, service = Home(folder / "home"), service or FakeService()
    settings = Settings(
        home.socket,
        Address("127.0.0.1", 0) if tcp else None,
        patience=patience or Patience(),
        **more,
    )
    ready: queue.Queue[Any] = queue.Queue()

    def run() -> None:
        try:
            ready.put(serve(service, home, settings, ready=ready.put))
        except BaseException as error:
            ready.put(error)

    thread = threading.Thread(target=run)
    thread.start()
    serving = ready.get(timeout=PATIENCE)
    if isinstance(serving, BaseException):
        raise serving
    try:
        yield Listening(home, service, serving)
    finally:
        serving.end()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    ended = ready.get(timeout=PATIENCE)
    assert ended == 0, ended
