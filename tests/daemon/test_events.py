"""The stream of updates: live, replayed after a reconnect, bounded in number."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoopt.daemon.client import Client
from tests.daemon.listening import Listening, listening


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Listening]:
    with listening(tmp_path) as found:
        yield found


def client(server: Listening) -> Client:
    return Client(url=server.serving.url, token=server.token)


def test_updates_come_and_are_replayed(server: Listening) -> None:
    hub = server.service.hub
    with client(server) as one:
        events = one.events()
        first = next(events)
        assert (first.kind, first.data) == ("reset", {"jobs": []})
        hub.publish("live", "a", {"n": 1, "text": "<script>\n\r\u2028 é"})
        second = next(events)
        assert (second.kind, second.job_id, second.id) == ("live", "a", first.id + 1)
        assert second.data == {"n": 1, "text": "<script>\n\r\u2028 é"}
    for number in (2, 3):
        hub.publish("live", "a", {"n": number})
    with client(server) as again:
        events = again.events(after=second.id)
        assert [next(events).data["n"] for _ in range(2)] == [2, 3]
    with client(server) as other_life:
        assert next(other_life.events(after=5)).kind == "reset"


def test_the_header_of_a_browser_wins(server: Listening) -> None:
    begin = server.service.hub.last
    for number in (1, 2):
        server.service.hub.publish("live", "a", {"n": number})
    with server.connect() as connection:
        header = server.head("GET", f"/v1/events?after={begin}", f"last-event-id: {begin + 1}")
        connection.sendall(header + b"\r\n")
        text = b""
        while b"\ndata:" not in text:
            text += connection.recv(65536)
    assert b"text/event-stream" in text
    assert b"retry: 2000" in text
    assert f"id: {begin + 2}\nevent: live\n".encode() in text
    assert b'"n": 1' not in text


def test_five_hundred_clients(server: Listening) -> None:
    """64 are served, the rest are told to come later, and everybody else is answered."""
    kept: list[socket.socket] = []
    statuses: dict[bytes, int] = {}
    try:
        for _ in range(500):
            connection = server.connect()
            connection.sendall(server.head("GET", "/v1/events") + b"\r\n")
            answer = connection.recv(65536)
            status = answer.split(b" ")[1]
            statuses[status] = statuses.get(status, 0) + 1
            if status == b"200":
                kept.append(connection)
            else:
                assert b"retry-after: 5" in answer
                connection.close()
        assert statuses == {b"200": 64, b"503": 436}
        began = time.monotonic()
        assert server.get("/healthz") == (200, b'{"status":"ok"}')
        assert server.get("/v1/health")[0] == 200
        assert server.get("/v1/jobs")[0] == 200
        assert time.monotonic() - began < 5
        server.service.hub.publish("live", "a", {"n": 7})
        for connection in kept:
            text = b""
            while b'"n": 7' not in text:
                text += connection.recv(65536)
    finally:
        for connection in kept:
            connection.close()
    deadline = time.monotonic() + 20
    while True:  # whoever has gone makes room
        with server.connect() as connection:
            connection.sendall(server.head("GET", "/v1/events") + b"\r\n")
            if connection.recv(65536).startswith(b"HTTP/1.1 200"):
                break
        assert time.monotonic() < deadline


def test_streams_end_with_the_daemon(tmp_path: Path) -> None:
    with listening(tmp_path) as server:
        connection = server.connect()
        connection.sendall(server.head("GET", "/v1/events") + b"\r\n")
        assert b"200" in connection.recv(65536)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    connection.settimeout(10)
    while connection.recv(65536):
        pass
    connection.close()
