"""`autoopt serve` as a process: what it says, what it refuses, how it ends; and that no secret is in its log."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from autoopt.daemon.client import Client
from autoopt.daemon.protocol import Patience
from autoopt.daemon.server import Settings
from autoopt.daemon.sockets import Address
from autoopt.errors import UsageError
from tests.daemon.fakes import FakeService
from tests.daemon.listening import listening

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


class Daemon:
    """A process of `autoopt serve`."""

    def __init__(
        self, home: Path, *arguments: str, command: list[str] | None = None, **variables: str
    ) -> None:
        self.home = home
        given = command or ["-m", "autoopt", "serve", "--json", "--devices", "cpu", *arguments]
        self.errors = home.with_name(f"{home.name}.log")
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *given],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"AUTOOPT_HOME": str(home), "PYTHONPATH": str(ROOT)} | variables,
                cwd="/",
                text=True,
            )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()

    @property
    def told(self) -> dict[str, Any]:
        """What it said when it was ready, or instead."""
        found: dict[str, Any] = json.loads(self.line)
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def client(self) -> Client:
        """On its Unix socket."""
        return Client(socket=self.told["socket"])


@contextmanager
def daemon(home: Path, *arguments: str, **more: Any) -> Iterator[Daemon]:
    """A daemon that does not outlive the test."""
    started = Daemon(home, *arguments, **more)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()
        assert started.process.stdout is not None
        started.process.stdout.close()


def test_it_serves_ends_on_sigterm_and_keeps_its_secrets(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with daemon(home, "--http", "127.0.0.1:0") as served:
        url = served.told["url"]
        token = (home / "token").read_text().strip()
        with served.client() as client:
            assert client.health()["status"] == "ok"
            assert client.jobs() == []
            link = client.login_link()
        with httpx.Client(base_url=url, trust_env=False) as browser:
            assert browser.get("/healthz").json() == {"status": "ok"}
            assert browser.get("/v1/jobs").status_code == 401
            assert browser.get("/v1/jobs", headers={"authorization": f"Bearer {token}"}).status_code == 200
            assert browser.get("/v1/jobs", headers={"authorization": f"Bearer {token}x"}).status_code == 401
            assert browser.get(f"/v1/jobs?token={token}").status_code == 401
            assert browser.get(link.removeprefix(url)).status_code == 303
            assert browser.get("/v1/jobs").status_code == 200
            cookie = next(iter(browser.cookies.jar)).value
            assert browser.get(link.removeprefix(url)).status_code == 403
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as odd:
            odd.sendall(f"GET /login/{token} HTTP/9.9\r\nauthorization: Bearer {token}\r\n\r\n".encode())
            odd.recv(65536)
        assert served.end() == 0
        assert not Path(served.told["socket"]).exists()
        log = served.errors.read_text() + served.line
    assert "SIGTERM" in log
    for secret in (token, link.rpartition("/")[2], cookie):
        assert secret
        assert secret not in log


def test_a_second_daemon_refuses_and_names_the_first(tmp_path: Path) -> None:
    with daemon(tmp_path / "home") as first, daemon(tmp_path / "home") as second:
        assert second.process.wait(PATIENCE) == 4
        error = second.told["error"]
        assert f"process {first.process.pid}" in error["message"]
        with first.client() as client:
            assert client.health()["pid"] == first.process.pid


def test_after_a_kill_the_socket_is_replaced(tmp_path: Path) -> None:
    with daemon(tmp_path / "home") as killed:
        killed.end(signal.SIGKILL)
        assert Path(killed.told["socket"]).is_socket()
    with daemon(tmp_path / "home") as served:
        with served.client() as client:
            assert client.health()["pid"] == served.process.pid
        assert served.end(signal.SIGINT) == 0


SLOW = """
import sys, time, json
from pathlib import Path
from autoopt.daemon.home import Home
from autoopt.daemon.server import Settings, serve
from tests.daemon.fakes import FakeService

class Slow(FakeService):
    def stop(self, drain=True):
        print("draining", flush=True)
        time.sleep(600)

home = Home()
serve(Slow(), home, Settings(home.socket), ready=lambda s: print(json.dumps({"socket": str(s.socket)}), flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_second_signal_is_immediate(tmp_path: Path, number: int) -> None:
    with daemon(tmp_path / "home", command=["-c", SLOW]) as served:
        assert served.process.stdout is not None
        served.process.send_signal(number)
        assert served.process.stdout.readline() == "draining\n"
        began = time.monotonic()
        assert served.end(number) == 128 + number
        assert time.monotonic() - began < 5


def test_under_nohup_it_stays_when_the_terminal_goes(tmp_path: Path) -> None:
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with daemon(
        tmp_path / "home", command=["-c", ignoring + SLOW.replace("sleep(600)", "sleep(0)")]
    ) as served:
        served.process.send_signal(signal.SIGHUP)
        with served.client() as client:
            assert client.health()["status"] == "ok"
        assert served.end() == 0


def test_systemd_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(PATIENCE)
        with daemon(tmp_path / "home", NOTIFY_SOCKET=path, WATCHDOG_USEC="300000") as served:
            heard: list[str] = []
            while heard.count("WATCHDOG=1") < 3:
                heard += systemd.recv(4096).decode().splitlines()
            assert "READY=1" in heard
            served.process.terminate()
            while "STOPPING=1" not in heard:
                heard += systemd.recv(4096).decode().splitlines()
            assert served.process.wait(PATIENCE) == 0


def test_systemd_hears_nothing_of_a_service_that_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def health() -> dict[str, Any]:
        asked.append(len(asked) < 4)
        return {"stalled": asked[-1]}

    service = FakeService()
    service.health = health  # type: ignore[method-assign]
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        monkeypatch.setenv("WATCHDOG_USEC", "60000")
        with listening(tmp_path, tcp=False, service=service):
            while systemd.recv(4096) != b"WATCHDOG=1":
                pass
            assert asked[:5] == [True] * 4 + [False]


def test_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("openssl cannot make a certificate here")
    quick = Patience(header_seconds=1.0)
    with listening(tmp_path, quick, certificate=certificate, key=key, names=["localhost"]) as server:
        assert server.serving.url == f"https://localhost:{server.port}"
        url = server.serving.url
        with Client(url=url, token=server.token, verify=str(certificate)) as client:
            assert client.health()["status"] == "ok"
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(base_url=url, verify=trusted, trust_env=False) as browser:
            link = server.serving.link()
            assert link is not None
            cookie = browser.get(link.removeprefix(url)).headers["set-cookie"]
            assert "; Secure" in cookie
        with socket.create_connection(("127.0.0.1", server.port)) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert b"200" not in plain.recv(65536)
        with socket.create_connection(("127.0.0.1", server.port)) as silent:
            silent.settimeout(PATIENCE)
            assert silent.recv(1) == b""


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", "::", "192.168.1.1", "2001:db8::1"])
def test_what_others_can_reach_needs_tls(host: str) -> None:
    with pytest.raises(UsageError, match="other machines"):
        Settings(Path("/s"), Address(host, 8470)).check()


def test_halves_of_settings(tmp_path: Path) -> None:
    address = Address("127.0.0.1", 8470)
    (tmp_path / "c").write_text("no certificate")
    for settings, because in (
        (Settings(Path("/s"), address, certificate=Path("/c")), "certificate and its key"),
        (Settings(Path("/s"), address, key=Path("/k")), "certificate and its key"),
        (Settings(Path("/s"), certificate=Path("/c"), key=Path("/k")), "of a TCP address"),
        (Settings(Path("/s"), names=["x"]), "of a TCP address"),
        (Settings(Path("/s"), address, certificate=Path("/nowhere"), key=Path("/k")), "cannot be used"),
        (Settings(Path("/s"), address, certificate=tmp_path / "c", key=tmp_path / "c"), "cannot be used"),
    ):
        with pytest.raises(UsageError, match=because):
            settings.check()
    Settings(Path("/s"), address).check()
    Settings(Path("/s")).check()


def test_a_port_that_is_taken_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with daemon(tmp_path / "home", "--http", address) as refused:
            assert refused.process.wait(PATIENCE) == 4
            assert "taken" in refused.told["error"]["message"]
    assert not (tmp_path / "home" / "queue.db").exists()
