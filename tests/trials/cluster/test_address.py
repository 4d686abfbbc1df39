"""A cluster's address, tried before Ray is."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from autoopt.errors import ClusterGone, UsageError
from autoopt.trials.cluster import address as addresses
from autoopt.trials.cluster.address import check, is_loopback, token_of


@pytest.fixture(autouse=True)
def with_ray(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What is installed; a test takes out of it."""
    installed = {"ray", "grpc"}
    monkeypatch.setattr(addresses, "find_spec", lambda name: name if name in installed else None)
    return installed


def test_what_is_not_installed_is_named_with_its_extra(with_ray: set[str]) -> None:
    with_ray.discard("grpc")
    check("auto")
    with pytest.raises(UsageError, match=r"pip install 'autoopt\[ray\]'"):
        check("ray://127.0.0.1:10001")
    with_ray.clear()
    with pytest.raises(UsageError, match=r"pip install 'autoopt\[ray\]'"):
        check("auto")


@pytest.mark.parametrize(
    "address", ["nonsense", "host:", ":6379", "host:port", "host:70000", "http://host:8265", "ray://host", ""]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UsageError, match="no address of a cluster"):
        check(address)


def test_a_port_that_nobody_listens_on() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, and not listening
        port = free.getsockname()[1]
        with pytest.raises(ClusterGone, match=f"no Ray cluster at 127.0.0.1:{port}: nothing listens there"):
            check(f"127.0.0.1:{port}")
        with pytest.raises(ClusterGone, match="10001"):
            check(f"ray://127.0.0.1:{port}")


def test_a_port_that_somebody_listens_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check(f"127.0.0.1:{server.getsockname()[1]}")
        check(f"ray://localhost:{server.getsockname()[1]}")


def test_a_machine_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*given: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    with pytest.raises(ClusterGone, match="no machine named nowhere"):
        check("nowhere:6379")

    def silent(*given: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", silent)
    with pytest.raises(ClusterGone, match="firewall"):
        check("nowhere:6379")


def test_the_loopback() -> None:
    assert [is_loopback(a) for a in ("127.0.0.1:1", "localhost:1", "[::1]:1")] == [True] * 3
    assert not is_loopback("10.0.0.1:6379")


def test_a_client_is_told_of_the_users_token(tmp_path: Path) -> None:
    assert token_of({}, tmp_path) == {}
    assert token_of({"RAY_AUTH_TOKEN": "x"}, tmp_path) == {"RAY_AUTH_MODE": "token"}
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x")
    assert token_of({}, tmp_path) == {"RAY_AUTH_MODE": "token"}
    assert token_of({"RAY_AUTH_MODE": "disabled"}, tmp_path) == {}
