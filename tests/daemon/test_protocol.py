"""Slow and greedy connections: they are cut, and everybody else is answered."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoopt.daemon.client import Client
from autoopt.daemon.protocol import Patience
from tests.daemon.listening import Listening, listening

QUICK = Patience(
    header_seconds=0.4,
    body_seconds=0.4,
    body_bytes=1000,
    write_seconds=0.4,
    connections=40,
    look_seconds=0.05,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    with listening(tmp_path_factory.mktemp("protocol"), QUICK) as found:
        yield found


def closed(connection: socket.socket, within: float = 20.0) -> bool:
    """Whether the other end closes it."""
    connection.settimeout(within)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def drip(connection: socket.socket, piece: bytes, within: float = 20.0) -> bool:
    """Send a piece again and again; whether the other end puts an end to it."""
    deadline = time.monotonic() + within
    try:
        while time.monotonic() < deadline:
            connection.sendall(piece)
            time.sleep(0.02)
    except OSError:
        return True
    return False


def test_a_connection_that_says_nothing(server: Listening) -> None:
    with server.connect() as connection:
        assert closed(connection)


def test_a_header_that_comes_byte_by_byte(server: Listening) -> None:
    with server.connect() as connection:
        connection.sendall(server.head("GET", "/healthz"))
        assert drip(connection, b"x: y\r\n")
    assert server.get("/healthz")[0] == 200


def test_the_second_header_of_a_connection(server: Listening) -> None:
    with server.connect() as connection:
        connection.sendall(server.head("GET", "/healthz") + b"\r\n")
        assert b" 200 " in connection.recv(65536)
        connection.sendall(b"GET")
        assert closed(connection)


def test_a_body_that_comes_byte_by_byte(server: Listening) -> None:
    header = (
        server.head("POST", "/v1/jobs", "content-type: application/json", "content-length: 9000") + b"\r\n"
    )
    with server.connect() as connection:
        connection.sendall(header)
        assert drip(connection, b" ")


def test_chunks_that_come_byte_by_byte_without_end(server: Listening) -> None:
    header = server.head("POST", "/v1/jobs", "content-type: application/json", "transfer-encoding: chunked")
    with server.connect() as connection:
        connection.sendall(header + b"\r\n")
        assert drip(connection, b"1\r\n \r\n")


def test_the_body_of_a_request_that_was_refused(server: Listening) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nhost: evil\r\ncontent-length: 900000\r\n\r\n")
        assert drip(connection, b" " * 100)


def test_a_body_that_comes_steadily_arrives(server: Listening) -> None:
    body = b'{"target": "model.py"' + b" " * 6000 + b"}"
    length = f"content-length: {len(body)}"
    with server.connect() as connection:
        connection.sendall(
            server.head("POST", "/v1/jobs", "content-type: application/json", length) + b"\r\n"
        )
        for begin in range(0, len(body), 200):
            connection.sendall(body[begin : begin + 200])
            time.sleep(0.04)
        # Longer than the patience with a header, and at more than the least rate.
        assert b" 422 " in connection.recv(65536)  # over TCP a project is uploaded


def test_somebody_who_does_not_read(server: Listening) -> None:
    for _ in range(40):
        server.service.hub.publish("live", "x", {"text": "x" * 100_000})
    first = server.service.hub.last - 40
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(server.head("GET", f"/v1/events?after={first}") + b"\r\n")
        time.sleep(1.0)  # longer than somebody must have read
        assert closed(connection)
    deadline = time.monotonic() + 20
    while b"autoopt_event_streams 0.0" not in server.get("/metrics")[1]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_more_connections_than_are_kept(tmp_path: Path) -> None:
    with listening(tmp_path, Patience(connections=10)) as server:
        connections = [server.connect() for _ in range(30)]
        try:
            # The first ten wait for their header still; the others were cut at once.
            assert [closed(connection, 5.0) for connection in connections[10:]] == [True] * 20
            connections[0].sendall(server.head("GET", "/healthz", "connection: close") + b"\r\n")
            assert b" 200 " in connections[0].recv(65536)
        finally:
            for connection in connections:
                connection.close()
        # The Unix socket is a listener of its own.
        with Client(socket=server.serving.socket) as client:
            assert client.health()["status"] == "ok"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /healthz\r\n\r\n",
        b"GET http://evil/ HTTP/1.1\r\nhost: 127.0.0.1:1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\r\n" * 10_000,
    ],
    ids=range(10),
)
def test_what_is_no_request(server: Listening, sent: bytes) -> None:
    with server.connect() as connection:
        try:
            connection.sendall(sent)
            connection.settimeout(20)
            answer = connection.recv(65536)
        except OSError:
            answer = b""
        assert answer == b"" or answer.split(b" ")[1][:1] == b"4"
        assert closed(connection)
    assert server.get("/healthz")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../token", "/static/../../token", "/static/..%2ftoken", "/static/%2e%2e/token"),
        *(
            "/static/%2e%2e%2f%2e%2e%2ftoken",
            "/static/..%252f..%252ftoken",
            "/static/..\\token",
            "/static/..%5ctoken",
        ),
        *(
            "/static//etc/passwd",
            "/static/%2fetc%2fpasswd",
            "//etc/passwd",
            "/../../etc/passwd",
            "/static/%00",
        ),
        *(
            "/static/index.html%00",
            "/static/%c0%ae%c0%ae%c0%aftoken",
            "/static/....//token",
            "/static/~/token",
        ),
        *(
            "/v1/jobs/../../token",
            "/v1/jobs/..%2f..%2ftoken",
            "/v1/jobs/abcdefghijkl/files/..%2f..%2f..%2ftoken",
        ),
        *(
            "/v1/jobs/abcdefghijkl/files/../../../token",
            "/login/..%2ftoken",
            "/static/../v1/jobs",
            "/%2e%2e/token",
        ),
    ],
)
def test_paths_as_no_client_would_send_them(server: Listening, path: str) -> None:
    """Byte for byte: a client's library would tidy them up."""
    with server.connect() as connection:
        connection.sendall(server.head("GET", path, "connection: close") + b"\r\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.split(b" ")[1] in (b"400", b"403", b"404")
    assert server.token.encode() not in answer
    assert b"root:" not in answer
