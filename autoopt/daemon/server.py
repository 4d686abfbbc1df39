"""`autoopt serve`: binds the sockets, serves the API on them, and ends as a service should.

Two listeners serve one app: the Unix socket, and TCP where an address is given. Each has its own guard (`security.py`),
so what one lets in says nothing about the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import uvicorn
from starlette.types import ASGIApp

from autoopt.daemon import logged, submitting
from autoopt.daemon.api import Service, make_app
from autoopt.daemon.events import MAX_STREAMS
from autoopt.daemon.home import Home
from autoopt.daemon.login import Keys, read_or_make
from autoopt.daemon.notify import Notifier
from autoopt.daemon.protocol import Patience, patient
from autoopt.daemon.security import UNIX, Guard, Listener
from autoopt.daemon.sockets import Address, UnixSocket, bind_tcp
from autoopt.errors import UsageError

_log = logging.getLogger(__name__)

_MAX_HEADER = 16 << 10
_GRACEFUL_SECONDS = 5
_HEALTH_SECONDS = 10.0


class Runs(Service, Protocol):
    """A service that is started and stopped here."""

    def start(self) -> None:
        """Take the home and begin to work."""
        ...

    def stop(self, drain: bool = True) -> None:
        """End."""
        ...


@dataclass(frozen=True)
class Settings:
    """Where and how to serve.

    Args:
        socket: path of the Unix socket.
        http: address on TCP; none unless given.
        certificate, key: files in PEM; TLS on TCP with them.
        names: under which other machines reach the TCP address, without a port.
        patience: with slow clients.
        max_streams: event streams that may be open at once.
    """

    socket: Path
    http: Address | None = None
    certificate: Path | None = None
    key: Path | None = None
    names: list[str] = field(default_factory=list)
    patience: Patience = field(default_factory=Patience)
    max_streams: int = MAX_STREAMS

    @property
    def tls(self) -> bool:
        """Whether TCP is encrypted."""
        return self.certificate is not None

    def check(self) -> None:
        """Refuse what would not be safe, or cannot work.

        Raises:
            UsageError: the address can be reached from other machines, and there is no TLS; half of TLS is given; a
                certificate that cannot be read; no name for an address that has none.
        """
        if (self.certificate is None) != (self.key is None):
            raise UsageError("TLS needs a certificate and its key.", "Give both --tls-cert and --tls-key.")
        if self.http is None:
            if self.tls or self.names:
                raise UsageError(
                    "--tls-cert and --name are of a TCP address.", "Give --http ADDRESS:PORT too."
                )
            return
        if not self.http.loopback and not self.tls:
            raise UsageError(
                f"{self.http.shown} can be reached from other machines, and the token would cross the network in clear.",
                "Give --tls-cert and --tls-key; or stay with 127.0.0.1 and reach it by `ssh -L`.",
            )
        if self.tls:
            try:
                ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                    self.certificate or "", self.key
                )
            except (OSError, ssl.SSLError) as error:
                raise UsageError(
                    f"The certificate {self.certificate} with its key {self.key} cannot be used: {error}.",
                    "Both are files in PEM, and the key has no password.",
                ) from None
        if not self.http.hosts(self.names, tls=self.tls):
            raise UsageError(
                f"{self.http.shown} stands for every address of this machine, and none is its name.",
                "Say under which it is reached: --name gpu1.example.org.",
            )


@dataclass(frozen=True)
class Serving:
    """What is said when the daemon is ready.

    Args:
        socket: path of the Unix socket.
        url: of the page, if there is one.
        link: makes a login link of it.
        end: ends the daemon as SIGTERM does; from any thread.
    """

    socket: Path
    url: str | None
    link: Callable[[], str | None]
    end: Callable[[], None]


def serve(
    service: Runs,
    home: Home,
    settings: Settings,
    *,
    ready: Callable[[Serving], None] = lambda _: None,
) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP, and return the exit code. A second signal ends the process at once.

    Args:
        service: not started yet.
        home: its state folder.
        settings: where to listen.
        ready: called when everything answers.

    Raises:
        UsageError: the settings cannot be used.
        RunError: a socket cannot be bound, or the service cannot be started.
    """
    settings.check()
    home.make()
    token = read_or_make(home.token) if settings.http else ""
    with logged.to_stderr([token]), contextlib.ExitStack() as stack:
        tcp: tuple[socket.socket, Address] | None = None
        if settings.http is not None:
            tcp = bind_tcp(settings.http)  # first: a port that is taken must cost no job its start
            stack.callback(tcp[0].close)
        return asyncio.run(_Daemon(service, home, settings, tcp, token, ready).run())


def _set(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # it has ended already
        loop.call_soon_threadsafe(event.set)


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves the signals alone (there are two of it, and one process) and waits less for TLS."""

    def __init__(self, config: uvicorn.Config, handshake_seconds: float) -> None:
        super().__init__(config)
        self._handshake_seconds = handshake_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's for sockets that are bound, with an end to a handshake that does not come."""
        config = self.config
        timeout = None if config.ssl is None else self._handshake_seconds

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state={}
            )
            return made

        self.servers = [
            await asyncio.get_running_loop().create_server(
                protocol, sock=bound, ssl=config.ssl, backlog=config.backlog, ssl_handshake_timeout=timeout
            )
            for bound in sockets or []
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Daemon:
    def __init__(
        self,
        service: Runs,
        home: Home,
        settings: Settings,
        tcp: tuple[socket.socket, Address] | None,
        token: str,
        ready: Callable[[Serving], None],
    ) -> None:
        self._service = service
        self._home = home
        self._settings = settings
        self._tcp = tcp
        self._keys = Keys(token) if token else None
        self._ready = ready
        self._notifier = Notifier()
        self._ending = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():  # others get no signals
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                    loop.add_signal_handler(number, self._end, number)
        await asyncio.to_thread(self._service.start)
        try:
            submitting.clean(self._home)  # what an earlier daemon was unpacking when it died
            listening = UnixSocket(self._settings.socket)
            try:
                await self._serve(listening)
            finally:
                listening.close()
        finally:
            self._notifier.tell("STOPPING=1", "STATUS=Ending what runs")
            await asyncio.to_thread(self._service.stop, True)
        return 0

    async def _serve(self, listening: UnixSocket) -> None:
        url, listener = self._listener()
        api = make_app(
            self._service,
            self._home,
            keys=self._keys,
            page_url=url,
            max_streams=self._settings.max_streams,
        )
        servers = [(self._server(Guard(api.asgi, UNIX)), listening.socket)]
        if self._tcp is not None and listener is not None:
            guarded = Guard(api.asgi, listener, self._keys)
            servers.append((self._server(guarded, tls=self._settings.tls), self._tcp[0]))
        tasks = [asyncio.create_task(server.serve(sockets=[bound])) for server, bound in servers]
        beating = asyncio.create_task(self._beat())
        ending = asyncio.create_task(self._ending.wait())
        try:
            while not all(server.started for server, _ in servers) and not any(task.done() for task in tasks):
                await asyncio.sleep(0.01)
            if not any(task.done() for task in tasks) and not self._ending.is_set():
                self._notifier.tell("READY=1", f"STATUS=Serving {listening.path}")
                loop = asyncio.get_running_loop()
                self._ready(
                    Serving(
                        listening.path,
                        url,
                        self._link(url),
                        partial(_set, loop, self._ending),
                    )
                )
            await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            beating.cancel()
            ending.cancel()
            listening.remove()
            api.streams.close()
            for server, _ in servers:
                server.should_exit = True
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, BaseException) and not isinstance(ended, asyncio.CancelledError):
                    raise ended

    def _server(self, app: ASGIApp, *, tls: bool = False) -> _Server:
        more: dict[str, Any] = {}
        if tls:
            more = {"ssl_certfile": self._settings.certificate, "ssl_keyfile": self._settings.key}
        return _Server(
            uvicorn.Config(
                app,
                http=patient(self._settings.patience),
                ws="none",
                lifespan="off",
                loop="asyncio",
                interface="asgi3",
                workers=1,  # else a variable of the environment is asked
                # Paths may hold the secret of a login link.
                access_log=False,
                log_config=None,
                server_header=False,
                # Whoever connects could claim to be somebody else.
                proxy_headers=False,
                h11_max_incomplete_event_size=_MAX_HEADER,
                timeout_graceful_shutdown=_GRACEFUL_SECONDS,
                **more,
            ),
            self._settings.patience.header_seconds,
        )

    def _listener(self) -> tuple[str | None, Listener | None]:
        if self._tcp is None:
            return None, None
        address, tls = self._tcp[1], self._settings.tls
        scheme = "https" if tls else "http"
        hosts = address.hosts(self._settings.names, tls=tls)
        name = f"{self._settings.names[0]}:{address.port}" if self._settings.names else address.shown
        listener = Listener("tcp", hosts, "https" if tls else "http", f"autoopt_{address.port}")
        return f"{scheme}://{name}", listener

    def _link(self, url: str | None) -> Callable[[], str | None]:
        def link() -> str | None:
            return f"{url}/login/{self._keys.new_link()}" if url and self._keys else None

        return link

    async def _beat(self) -> None:
        """Signs of life to systemd, as long as the service goes round its loop."""
        if self._notifier.watchdog_seconds is None:
            return
        while True:
            with contextlib.suppress(Exception):
                health = await asyncio.wait_for(asyncio.to_thread(self._service.health), _HEALTH_SECONDS)
                if not health.get("stalled"):
                    self._notifier.tell("WATCHDOG=1")
            await asyncio.sleep(self._notifier.watchdog_seconds / 3)

    def _end(self, number: int) -> None:
        if self._ending.is_set():
            # The guards end what runs when this process is gone, and the queue is on the disk.
            os._exit(128 + number)
        _log.info("%s: ending what runs; a second one ends at once", signal.Signals(number).name)
        self._ending.set()
