"""A server with the daemon's routes and answers that a test chooses: states that a real one is rarely in."""

from __future__ import annotations

import contextlib
import json
import queue
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[3] / "autoopt" / "daemon" / "page"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page has to live with."""

Json = Any


@dataclass
class Fake:
    """The answers, and what was asked."""

    jobs: dict[str, Json] = field(default_factory=dict)
    lives: dict[str, Json] = field(default_factory=dict)
    results: dict[str, Json] = field(default_factory=dict)
    files: dict[tuple[str, str], str] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    devices: list[Json] = field(default_factory=list)
    fails: dict[str, tuple[int, Json]] = field(default_factory=dict)
    """Path -> status and problem."""
    max_upload: int = 1 << 20
    delay: float = 0.0
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    on_post: Callable[[str, bytes], Json] | None = None
    _connections: list[socket.socket] = field(default_factory=list)
    _streams: list[queue.Queue[str | None]] = field(default_factory=list)
    _updates: list[tuple[int, str]] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """On the port that it had before, if it had one."""
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def stop(self) -> None:
        """As a process that dies: the kept connections end too."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        self.drop()
        for one in self._connections:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def drop(self) -> None:
        """Every stream breaks off."""
        with self._lock:
            for one in self._streams:
                one.put(None)
            self._streams.clear()

    def tell(self, kind: str, job_id: str, data: Json) -> None:
        """An event, kept for those who come back."""
        with self._lock:
            number = len(self._updates) + 1
            line = f"id: {number}\nevent: {kind}\ndata: {json.dumps({'job_id': job_id, 'data': data})}\n\n"
            self._updates.append((number, line))
            for one in self._streams:
                one.put(line)

    def put(self, job: Json) -> None:
        """A job in a new version, told to all."""
        before = self.jobs.get(job["id"])
        job = {**job, "version": (before["version"] if before else 0) + 1}
        self.jobs[job["id"]] = job
        if job["id"] in self.lives:
            self.lives[job["id"]] = {**self.lives[job["id"]], "job": job}
        self.tell("job", job["id"], job)

    def subscribe(self, after: int | None) -> queue.Queue[str | None]:
        with self._lock:
            mine: queue.Queue[str | None] = queue.Queue()
            for number, line in self._updates:
                if after is not None and number > after:
                    mine.put(line)
            self._streams.append(mine)
            return mine

    @property
    def streams(self) -> int:
        return len(self._streams)


class _Handler(BaseHTTPRequestHandler):
    fake: Fake
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.fake._connections.append(self.connection)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self._note(b"")
        if path == "/" or path.startswith("/static/"):
            return self._page("index.html" if path == "/" else path.removeprefix("/static/"))
        time.sleep(self.fake.delay)
        if path in self.fake.fails:
            return self._problem(*self.fake.fails[path])
        if path == "/v1/events":
            return self._events(query)
        if path == "/v1/jobs":
            return self._json({"jobs": list(self.fake.jobs.values())})
        if path == "/v1/session":
            return self._json(
                {"listener": "tcp", "uploads_only": True, "max_upload_bytes": self.fake.max_upload}
            )
        if path == "/v1/devices":
            return self._json({"devices": self.fake.devices})
        return self._of_job(path)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._note(body)
        if self.path in self.fake.fails:
            return self._problem(*self.fake.fails[self.path])
        assert self.fake.on_post is not None
        return self._json(self.fake.on_post(self.path, body))

    def _of_job(self, path: str) -> None:
        found = re.fullmatch(r"/v1/jobs/([^/]+)(?:/(live|result|log|files/([^/]+)))?", path)
        fake = self.fake
        if found is None or found[1] not in fake.jobs:
            return self._problem(
                404, {"title": "No such job", "detail": "There is no such job.", "hint": "See the list."}
            )
        job, what, name = found.groups()
        if what is None:
            return self._json(fake.jobs[job])
        if what == "live":
            return self._json(fake.lives.get(job) or empty(fake.jobs[job]))
        if what == "result":
            return self._json(fake.results[job])
        return self._text(fake.logs.get(job, "") if what == "log" else fake.files[job, name])

    def _events(self, query: str) -> None:
        last = self.headers.get("Last-Event-ID") or (re.findall(r"after=(\d+)", query) or [None])[0]
        mine = self.fake.subscribe(int(last) if last else None)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.write(b"retry: 200\n\n")
            self.wfile.flush()
            while (line := mine.get()) is not None:
                self.wfile.write(line.encode())
                self.wfile.flush()

    def _page(self, name: str) -> None:
        path = PAGE / name
        if "/" in name or not path.is_file():
            return self._problem(404, {"title": "Not found"})
        self._send(200, TYPES[path.suffix] + "; charset=utf-8", path.read_bytes())
        return None

    def _json(self, value: Json) -> None:
        self._send(200, "application/json", json.dumps(value).encode())

    def _text(self, value: str) -> None:
        self._send(200, "text/plain; charset=utf-8", value.encode())

    def _problem(self, status: int, value: Json) -> None:
        self._send(status, "application/problem+json", json.dumps({"status": status, **value}).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        # A browser that has gone meanwhile.
        with contextlib.suppress(OSError):
            self.end_headers()
            self.wfile.write(body)

    def _note(self, body: bytes) -> None:
        self.fake.asked.append((self.command, self.path, dict(self.headers), body))


def empty(job: Json) -> Json:
    """The live view of a job of which nothing is known yet."""
    return {
        "job": job,
        "plan": None,
        "progress": None,
        "trials": [],
        "rounds": [],
        "notes": [],
        "workload": None,
    }
