"""Attacks on the daemon's HTTP: each is refused before anything behind the guard has seen it."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.routing import Route
from starlette.testclient import TestClient

from autoopt.daemon.api import Api, make_app
from autoopt.daemon.home import Home
from autoopt.daemon.login import Keys
from autoopt.daemon.security import OPEN, UNIX, Guard, Listener
from tests.daemon.fakes import FakeService

TOKEN = "t" * 43
BASE = "http://127.0.0.1:8470"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "X"]
BEARER = {"authorization": f"Bearer {TOKEN}"}
SUBMISSION = {"target": "model.py"}


class Door:
    """An app with both its guards."""

    def __init__(self, home: Path) -> None:
        self.service = FakeService()
        self.keys = Keys(TOKEN)
        self.home = Home(home)
        self.home.make()
        self.api: Api = make_app(self.service, self.home, keys=self.keys, page_url=BASE)
        hosts = frozenset({"127.0.0.1:8470", "localhost:8470"})
        listener = Listener("tcp", hosts, "http", "autoopt_8470")
        small = {"max_body": 10_000, "max_upload": 100_000}
        self.tcp = self.client(Guard(self.api.asgi, listener, self.keys, **small), BASE)
        self.unix = self.client(Guard(self.api.asgi, UNIX, **small), "http://autoopt")

    @staticmethod
    def client(app: Any, base: str) -> TestClient:
        return TestClient(app, base_url=base, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Door:
    return Door(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def unharmed(door: Door) -> Iterator[None]:
    """No attack reaches the service."""
    door.tcp.cookies.clear()
    before = dict(door.service.found)
    yield
    assert door.service.found == before


def routes(door: Door) -> list[tuple[str, str]]:
    """Every route of the app with every method that it takes, parameters filled in."""
    found = []
    for route in door.api.app.routes:
        assert isinstance(route, Route)
        path = re.sub(r"\{[^}]*\}", "abcdefghijkl", route.path)
        found += [(method, path) for method in sorted(route.methods or {"GET"})]
    return found


def test_the_enumeration_finds_the_routes(door: Door) -> None:
    found = routes(door)
    for expected in (
        ("POST", "/v1/jobs"),
        ("GET", "/v1/events"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
    ):
        assert expected in found
    assert len(found) >= 17
    # A mount, or a router that is held as one, would hide routes from the enumeration.
    assert all(isinstance(route, Route) for route in door.api.app.routes)


def test_every_route_and_method_needs_the_token(door: Door) -> None:
    for (_, path), method in itertools.product(routes(door), METHODS):
        if method in ("GET", "HEAD") and OPEN.fullmatch(path):
            continue
        answer = door.tcp.request(method, path)
        assert answer.status_code == 401, (method, path)
        if method != "HEAD":
            assert answer.headers["content-type"] == "application/problem+json"


def test_what_is_open_holds_nothing_of_the_jobs(door: Door) -> None:
    opened = {path for _, path in routes(door) if OPEN.fullmatch(path)}
    assert opened == {"/", "/healthz", "/static/abcdefghijkl", "/login/abcdefghijkl"}
    assert door.tcp.get("/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize(
    "value",
    [
        "Bearer wrong",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "",
    ],
)
def test_a_wrong_token(door: Door, value: str) -> None:
    assert door.tcp.get("/v1/jobs", headers={"authorization": value}).status_code == 401
    assert door.tcp.get("/v1/jobs", params={"token": TOKEN}).status_code == 401


def test_two_tokens_are_none(door: Door) -> None:
    headers = [("authorization", f"Bearer {TOKEN}"), ("authorization", f"Bearer {TOKEN}")]
    assert door.tcp.get("/v1/jobs", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "value", ["", "x", ".", "..", "9999999999.a.b", "99999999999.x." + "0" * 64, "é.a.b"]
)
def test_a_forged_cookie(door: Door, value: str) -> None:
    raw = f"autoopt_8470={value}".encode()
    assert door.tcp.get("/v1/jobs", headers=[(b"cookie", raw)]).status_code == 401


def test_the_right_token_opens(door: Door) -> None:
    assert door.tcp.get("/v1/jobs", headers=BEARER).json() == {"jobs": []}


# --- other sites --------------------------------------------------------------------------------------------

FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:8471"},
    {"origin": "https://127.0.0.1:8470"},
    {"origin": "http://localhost"},
    {"origin": "http://127.0.0.1:8470.evil.example"},
    {"origin": "http://127.0.0.1:8470/"},
    {"origin": ""},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {"origin": "http://127.0.0.1:8470", "sec-fetch-site": "cross-site"},
    {"origin": "http://evil.example", "sec-fetch-site": "same-origin"},
]
TYPES = [
    "application/json",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "",
    "text/xml",
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_cross_site_requests_of_every_method_and_type(door: Door, headers: dict[str, str]) -> None:
    cookie = {"cookie": f"autoopt_8470={door.keys.new_cookie()}"}
    for method, kind, proof in itertools.product(METHODS, TYPES, (cookie, {})):
        if method in ("GET", "HEAD") and headers.get("sec-fetch-site") not in ("cross-site", "same-site"):
            continue
        sent = {**headers, **proof, "content-type": kind}
        body = json.dumps(SUBMISSION)
        answer = door.tcp.request(method, "/v1/jobs", headers=sent, content=body)
        assert answer.status_code == 403, (method, kind)
        assert "access-control-allow-origin" not in answer.headers


def test_a_cookie_alone_does_not_write(door: Door) -> None:
    """Browsers say where an unsafe request comes from."""
    cookie = {"cookie": f"autoopt_8470={door.keys.new_cookie()}"}
    assert door.tcp.get("/v1/jobs", headers=cookie).status_code == 200
    assert door.tcp.post("/v1/jobs", headers=cookie, json=SUBMISSION).status_code == 401
    assert door.tcp.post("/v1/jobs/abcdefghijkl/cancel", headers=cookie).status_code == 401
    same = {**cookie, "origin": BASE, "sec-fetch-site": "same-origin"}
    assert door.tcp.post("/v1/jobs/abcdefghijkl/cancel", headers=same).status_code == 404


def test_a_browser_that_reaches_the_unix_socket_by_a_forward_does_nothing(door: Door) -> None:
    for headers in ({"origin": "http://localhost"}, {"sec-fetch-site": "same-origin"}):
        assert door.unix.post("/v1/jobs", headers=headers, json=SUBMISSION).status_code == 403
    assert door.unix.get("/v1/jobs", headers={"host": "localhost:8470"}).status_code == 421


# --- names that are made to point here ------------------------------------------------------------------------

HOSTS = [
    "evil.example",
    "evil.example:8470",
    "127.0.0.1",
    "127.0.0.1:8471",
    "127.0.0.1:8470.evil.example",
    "localhost",
    "localhost:8470:8470",
    "localhost.:8470",
    "127.1:8470",
    "2130706433:8470",
    "0.0.0.0:8470",
    "[::1]:8470",
    "user@127.0.0.1:8470",
    "127.0.0.1:08470",
    " ",
    "",
]


@pytest.mark.parametrize("host", HOSTS)
def test_dns_rebinding(door: Door, host: str) -> None:
    for path in ("/", "/healthz", "/v1/jobs", "/login/x", "/static/main.js", "/nowhere"):
        assert door.tcp.get(path, headers={**BEARER, "host": host}).status_code == 421


def test_a_login_link_is_not_spent_under_another_name(door: Door) -> None:
    link = door.keys.new_link()
    assert door.tcp.get(f"/login/{link}", headers={"host": "evil.example"}).status_code == 421
    assert door.tcp.get(f"/login/{link}").status_code == 303


def test_two_hosts_or_none(door: Door) -> None:
    async def ask(headers: list[tuple[bytes, bytes]], path: bytes = b"/healthz") -> int:
        said: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            said.append(message)

        scope = {"type": "http", "method": "GET", "path": path.decode(), "raw_path": path, "headers": headers}
        scope |= {"query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1"}
        await door.tcp.app(scope, receive, send)  # type: ignore[operator]
        return int(said[0]["status"])

    good = (b"host", b"127.0.0.1:8470")
    assert asyncio.run(ask([good])) == 200
    assert asyncio.run(ask([good, good])) == 421
    assert asyncio.run(ask([])) == 421
    assert asyncio.run(ask([good], b"http://evil.example/healthz")) == 400


def test_a_web_socket_is_closed(door: Door) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), door.tcp.websocket_connect("/v1/events", headers=BEARER):
        pass


# --- paths ------------------------------------------------------------------------------------------------------

TRAVERSALS = [
    "../token",
    "..%2ftoken",
    "%2e%2e%2ftoken",
    "%2e%2e/token",
    "..%252ftoken",
    "..%5ctoken",
    "..\\token",
    "....//token",
    "%c0%ae%c0%ae%2ftoken",
    "%uff0e%uff0e/token",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "index.html%00.js",
    "index.html/",
    ".",
    "..",
    "%00",
]


@pytest.mark.parametrize("name", TRAVERSALS)
def test_path_traversal_in_every_encoding(door: Door, name: str) -> None:
    (door.home.path / "token").write_text("SECRET")
    for place in (
        f"/static/{name}",
        f"/v1/jobs/{name}/log",
        f"/v1/jobs/{name}",
        f"/v1/jobs/abcdefghijkl/files/{name}",
    ):
        answer = door.tcp.get(place, headers=BEARER)
        # The client itself makes "/static/.." the page, and "/v1/jobs/x/files/.." no route.
        allowed = 200 if answer.url.path in ("/", "/v1/jobs") else 404
        assert answer.status_code == allowed, place
        assert "SECRET" not in answer.text
        assert "root:" not in answer.text


# --- bodies -----------------------------------------------------------------------------------------------------


def pieces(size: int) -> Iterator[bytes]:
    for _ in range(0, size, 1000):
        yield b" " * 1000


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/abcdefghijkl/cancel", "/v1/login"])
def test_oversize_told_and_untold(door: Door, path: str) -> None:
    headers = {**BEARER, "content-type": "application/json"}
    assert door.tcp.post(path, headers=headers, content=b" " * 10_001).status_code == 413
    chunked = door.tcp.post(path, headers=headers, content=pieces(11_000))
    if path == "/v1/jobs":  # the others read no body: it is neither kept nor waited for
        assert chunked.status_code == 413
        assert chunked.headers["connection"] == "close"


def test_a_form_may_be_larger_and_not_without_end(door: Door) -> None:
    headers = {**BEARER, "content-type": "multipart/form-data; boundary=x"}
    assert door.tcp.post("/v1/jobs", headers=headers, content=b" " * 100_001).status_code == 413
    assert door.tcp.post("/v1/jobs", headers=headers, content=pieces(101_000)).status_code == 413
    assert door.tcp.post("/v1/jobs/a/cancel", headers=headers, content=b" " * 10_001).status_code == 413


@pytest.mark.parametrize("length", ["-1", "1e9", "9" * 40, "0x10", "1_0", "١"])
def test_lengths_that_are_no_numbers(door: Door, length: str) -> None:
    headers = [(b"authorization", f"Bearer {TOKEN}".encode()), (b"content-length", length.encode())]
    assert door.tcp.post("/v1/jobs", headers=headers).status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        "[" * 9000,
        '{"a":' * 1500,
        '{"target": ' + "[" * 4000 + "]" * 4000 + "}",
        '{"target": "m.py", "options": {"prior": ' + "[" * 4000 + "]" * 4000 + "}}",
        '{"target": "m.py", "priority": ' + "9" * 8000 + "}",
        '{"target": NaN}',
        "null",
        "",
        "\x00",
        '{"target": "m.py", "unknown": 1}',
        '{"target": ""}',
    ],
    ids=lambda body: body[:20],
)
def test_nested_and_malformed_documents(door: Door, body: str) -> None:
    headers = {"content-type": "application/json"}
    answer = door.unix.post("/v1/jobs", headers=headers, content=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 1000


def test_a_refused_body_ends_its_connection(door: Door) -> None:
    answer = door.tcp.post("/v1/jobs", content=b"x")
    assert answer.status_code == 401
    assert answer.headers["connection"] == "close"


# --- what a browser is told -----------------------------------------------------------------------------------------


def test_every_answer_is_hardened(door: Door) -> None:
    answers = [
        door.tcp.get("/"),
        door.tcp.get("/nowhere"),
        door.tcp.get("/v1/jobs"),
        door.tcp.get("/v1/jobs", headers=BEARER),
        door.tcp.get("/healthz", headers={"host": "evil.example"}),
        door.tcp.get("/v1/nowhere", headers=BEARER),
        door.unix.get("/v1/jobs"),
    ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] in ("no-store", "no-cache")
        assert "server" not in answer.headers


SCRIPT = "<script>alert(1)</script>\n\r\"'&\u2028"


def test_script_in_every_name(tmp_path: Path) -> None:
    """User text is data in JSON, whatever it spells, and no answer that repeats it is HTML."""
    door = Door(tmp_path)
    sub = {"target": SCRIPT, "name": SCRIPT, "arguments": [SCRIPT], "key": SCRIPT[:20]}
    made = door.unix.post("/v1/jobs", json=sub)
    assert made.status_code == 201
    id_ = made.json()["id"]
    for path in (
        "/v1/jobs",
        f"/v1/jobs/{id_}",
        f"/v1/jobs/{id_}/live",
        f"/v1/jobs/{id_}/log",
        f"/v1/{SCRIPT!r}",
    ):
        answer = door.unix.get(path)
        assert answer.headers["content-type"].split(";")[0] in (
            "application/json",
            "application/problem+json",
            "text/plain",
        )
    assert door.unix.get(f"/v1/jobs/{id_}").json()["submission"]["name"] == SCRIPT
    for answer in (
        door.unix.get("/v1/jobs", params={"before": SCRIPT}),
        door.unix.get("/v1/jobs", params={"state": SCRIPT}),
        door.unix.get("/v1/events", params={"after": SCRIPT}),
        door.unix.post("/v1/jobs", json={"target": "m.py", SCRIPT: 1}),
    ):
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"


NAMES = [
    "host",
    "origin",
    "sec-fetch-site",
    "authorization",
    "cookie",
    "content-length",
    "x-forwarded-host",
    "x",
]
VALUES = [
    *(
        "127.0.0.1:8470",
        "http://127.0.0.1:8470",
        "same-origin",
        "none",
        "null",
        "autoopt_8470=x",
        "0",
        "Bearer x",
    ),
    *("Bearer ", "Bearer", "evil.example", "cross-site", ""),
]


@settings(max_examples=100)
@given(
    method=st.sampled_from(METHODS),
    path=st.sampled_from(
        ["/v1/jobs", "/v1/login", "/metrics", "/static/../v1/jobs", "//v1/jobs", "/login/a/b", "/x"]
    ),
    headers=st.lists(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.text(max_size=20)), max_size=6
    ),
)
def test_whatever_is_sent_without_the_token_gets_nowhere(
    door: Door, method: str, path: str, headers: list[tuple[str, str]]
) -> None:
    reached: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)

    async def ask() -> list[Any]:
        said: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            said.append(message)

        raw = [(name.encode(), value.encode("utf-8", "replace")) for name, value in headers]
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": raw}
        await Guard(app, Listener("tcp", frozenset({"127.0.0.1:8470"}), "http", "autoopt_8470"), door.keys)(
            scope, receive, send
        )
        return said

    said = asyncio.run(ask())
    assert not reached
    assert said[0]["status"] in (401, 403, 421)
