"""The outermost layer of the daemon's HTTP: nothing behind it sees a request that is refused here.

In this order: the Host header, exactly; Origin and Sec-Fetch-Site; the token, in constant time; the size of the body.

    listener   who can reach it            what is asked of a request
    Unix       the user (0600 in 0700)     Host `autoopt` or `localhost`, and that no browser sends it
    TCP        everybody on the machine    Host as it was bound, the same Origin, token or cookie

The token keeps other users of the machine out. Host and Origin keep out web pages that the user's own browser has
open: a page elsewhere may send requests to a loopback address, and its name may be made to resolve to one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Literal

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autoopt.daemon.bundle import MAX_ARCHIVE
from autoopt.daemon.login import Keys
from autoopt.daemon.problems import respond

MAX_BODY = 1 << 20
"""Bytes of any body but an upload."""

SAFE = frozenset({"GET", "HEAD"})
OPEN = re.compile(r"/|/healthz|/static/[^/]*|/login/[^/]*")
"""Paths that need no token, to be read only: they hold no secret, and the page must be able to say how to log in."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"x-frame-options": b"DENY",
}


@dataclass(frozen=True)
class Listener:
    """A socket that the daemon listens on.

    Args:
        kind: "unix" or "tcp".
        hosts: the values of Host that are let in, in lower case.
        origin_scheme: "http" or "https".
        cookie: the name of the session's cookie. It tells the port, because cookies do not.
    """

    kind: Literal["unix", "tcp"]
    hosts: frozenset[str]
    origin_scheme: Literal["http", "https"] = "http"
    cookie: str = "autoopt"

    @property
    def origins(self) -> frozenset[str]:
        """The values of Origin that are let in: none on the Unix socket, which no browser reaches."""
        if self.kind == "unix":
            return frozenset()
        return frozenset(f"{self.origin_scheme}://{host}" for host in self.hosts)


UNIX = Listener("unix", frozenset({"autoopt", "localhost"}))


class Guard:
    """ASGI middleware: lets a request through to `app`, or refuses it.

    Args:
        app: what is guarded.
        listener: where the requests come from.
        keys: of a TCP listener.
        max_body, max_upload: bytes.
    """

    def __init__(
        self,
        app: ASGIApp,
        listener: Listener,
        keys: Keys | None = None,
        *,
        max_body: int = MAX_BODY,
        max_upload: int = MAX_ARCHIVE,
    ) -> None:
        if listener.kind == "tcp" and keys is None:
            raise ValueError("a TCP listener needs keys")
        self._app = app
        self._listener = listener
        self._keys = keys
        self._max_body = max_body
        self._max_upload = max_upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = _Headers(scope["headers"])
        refused = (
            self._host(scope, headers)
            or self._origin(scope, headers)
            or self._token(scope, headers)
            or self._size(scope, headers)
        )
        if refused is not None:
            # The rest of a body that nobody reads must not keep the connection open.
            refused.headers["connection"] = "close"
            await refused(scope, receive, _hardened(send))
            return
        scope["autoopt"] = {"listener": self._listener, "keys": self._keys, "max_upload": self._max_upload}
        body = _Body(self._limit(scope, headers), receive, _hardened(send))
        await body.run(self._app, scope)

    def _host(self, scope: Scope, headers: _Headers) -> Response | None:
        if not scope.get("raw_path", scope["path"].encode()).startswith(b"/"):
            return respond(400, "The target of the request is no path.")
        hosts = headers.all(b"host")
        if len(hosts) != 1 or hosts[0].lower() not in self._listener.hosts:
            names = " or ".join(sorted(self._listener.hosts))
            return respond(421, "This daemon is not reached under that name.", f"Use {names}.")
        return None

    def _origin(self, scope: Scope, headers: _Headers) -> Response | None:
        refusal = respond(403, "Requests from other sites are refused.", "Open the daemon's own page.")
        sites = headers.all(b"sec-fetch-site")
        if scope["method"] in SAFE:
            # A link to the page or a login link may be followed from anywhere; data is for the page alone.
            foreign = any(site not in ("same-origin", "none") for site in sites)
            return refusal if foreign and not OPEN.fullmatch(scope["path"]) else None
        origins = headers.all(b"origin")
        if any(origin not in self._listener.origins for origin in origins):
            return refusal
        if any(site != "same-origin" for site in sites) or len(origins) > 1 or len(sites) > 1:
            return refusal
        if self._listener.kind == "unix" and sites:
            return refusal
        return None

    def _token(self, scope: Scope, headers: _Headers) -> Response | None:
        keys = self._keys
        if keys is None or (scope["method"] in SAFE and OPEN.fullmatch(scope["path"])):
            return None
        given = headers.all(b"authorization")
        if len(given) == 1:
            scheme, _, token = given[0].partition(" ")
            if scheme.lower() == "bearer" and keys.knows_token(token.strip()):
                return None
        elif not given and keys.knows_cookie(_cookie(headers, self._listener.cookie)):
            # A browser says where an unsafe request comes from; a cookie without that was not sent by one.
            tells = headers.all(b"origin") or headers.all(b"sec-fetch-site")
            if scope["method"] in SAFE or tells:
                return None
        return respond(
            401,
            "This needs the daemon's token or a login.",
            "`autoopt serve --link` prints a login link; a program sends `Authorization: Bearer TOKEN`.",
            headers={"www-authenticate": "Bearer"},
        )

    def _size(self, scope: Scope, headers: _Headers) -> Response | None:
        lengths = headers.all(b"content-length")
        if not lengths:
            return None
        # More than any machine holds is refused without making a number of it.
        if not re.fullmatch(r"[0-9]{1,18}", lengths[0]) or int(lengths[0]) > self._limit(scope, headers):
            return _too_large(self._limit(scope, headers))
        return None

    def _limit(self, scope: Scope, headers: _Headers) -> int:
        """Only where a project is uploaded, more than a short document is taken."""
        kind = "".join(headers.all(b"content-type")[:1]).split(";")[0].strip().lower()
        upload = scope["method"] == "POST" and scope["path"] == "/v1/jobs" and kind == "multipart/form-data"
        return self._max_upload if upload else self._max_body


class _Headers:
    """All values of a header, as text."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._raw = list(raw)

    def all(self, name: bytes) -> list[str]:
        return [value.decode("latin-1") for key, value in self._raw if key == name]


class _Body:
    """Counts what arrives of a body whose length was not told, or told wrongly."""

    def __init__(self, limit: int, receive: Receive, send: Send) -> None:
        self._limit = limit
        self._receive = receive
        self._send = send
        self._seen = 0
        self._exceeded = False
        self._answered = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._next, self._answer)
        except Exception:
            if not self._exceeded:
                raise
        if self._exceeded and not self._answered:
            refusal = _too_large(self._limit)
            refusal.headers["connection"] = "close"
            await refusal(scope, self._receive, self._send)

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._limit:
                self._exceeded = True
                # As if the client had gone: whatever reads this body gives up.
                return {"type": "http.disconnect"}
        return message

    async def _answer(self, message: Message) -> None:
        if self._exceeded and not self._answered:
            return  # what the app made of half a body
        self._answered = True
        await self._send(message)


def _too_large(limit: int) -> Response:
    return respond(413, f"The body is larger than {limit} bytes.", "Hand in less.")


def _cookie(headers: _Headers, name: str) -> str:
    found: list[str] = []
    for text in headers.all(b"cookie"):
        try:
            cookies = SimpleCookie(text)
        except CookieError:
            continue
        if name in cookies:
            found.append(cookies[name].value)
    return found[0] if len(found) == 1 else ""


def _hardened(send: Send) -> Send:
    """Adds the headers that keep a browser from doing more with an answer than it is meant for."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", []))
            names = {name.lower() for name, _ in given}
            given += [(name, value) for name, value in HEADERS.items() if name not in names]
            if b"cache-control" not in names:
                given.append((b"cache-control", b"no-store"))
            message = {**message, "headers": given}
        await send(message)

    return sent
