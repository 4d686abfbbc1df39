"""The sockets: who can open them, at every instant; what is replaced and what is refused."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from autoopt.daemon.sockets import Address, UnixSocket, bind_tcp, parse_address
from autoopt.errors import RunError, UsageError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_it_is_the_users_alone_at_every_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the umask, from the system call that makes the file on."""
    folder, seen = tmp_path / "run", set()
    listen = socket.socket.listen

    def listening(self: socket.socket, *backlog: int) -> None:
        seen.update((path.suffix, mode(path)) for path in folder.iterdir() if path.is_socket())
        listen(self, *backlog)

    monkeypatch.setattr(socket.socket, "listen", listening)
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            try:
                seen.add(("folder", mode(folder)))
                seen.update(("any", mode(path)) for path in folder.iterdir() if path.is_socket())
            except OSError:
                continue

    watcher = threading.Thread(target=look)
    before = os.umask(0)
    try:
        watcher.start()
        for _ in range(100):
            UnixSocket(folder / "a.sock").close()
    finally:
        os.umask(before)
        ended.set()
        watcher.join()
    assert {found[1] for found in seen if found[0] != "folder"} == {0o600}
    assert {found[1] for found in seen if found[0] == "folder"} == {0o700}


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for wrong in (0o755, 0o711, 0o770, 0o777, 0o1777, 0o500):
        folder.chmod(wrong)
        with pytest.raises(RunError, match="only you can enter"):
            UnixSocket(folder / "a.sock")
        assert mode(folder) == wrong
    folder.chmod(0o700)
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    os.chown(tmp_path / "run", 12345, 12345)
    with pytest.raises(RunError, match="only you can enter"):
        UnixSocket(tmp_path / "run" / "a.sock")


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(tmp_path / "real")
    with pytest.raises(RunError, match="only you can enter"):
        UnixSocket(tmp_path / "run" / "a.sock")


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run" / "a.sock"
    path.parent.mkdir(mode=0o700)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    bound = UnixSocket(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    bound.close()
    assert not path.exists()


def test_a_living_socket_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run" / "a.sock"
    bound = UnixSocket(path)
    with pytest.raises(RunError, match="answers at"):
        UnixSocket(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    bound.close()
    # One of another program, which holds no lock beside it.
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(1)
        with pytest.raises(RunError, match="answers at"):
            UnixSocket(path)
    assert path.is_socket()


def test_of_many_at_once_one_is_served(tmp_path: Path) -> None:
    path, made, refused = tmp_path / "run" / "a.sock", [], []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        try:
            made.append(UnixSocket(path))
        except RunError as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (1, 7)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    made[0].close()


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "run" / "a.sock"
    path.parent.mkdir(mode=0o700)
    path.write_text("mine")
    with pytest.raises(RunError, match="no socket"):
        UnixSocket(path)
    assert path.read_text() == "mine"


def test_closing_leaves_another_ones_socket(tmp_path: Path) -> None:
    path = tmp_path / "run" / "a.sock"
    bound = UnixSocket(path)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        bound.close()
        bound.close()
        assert path.is_socket()


def test_too_long_a_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="longer than"):
        UnixSocket(tmp_path / ("x" * 100) / "a.sock")


def test_addresses() -> None:
    assert parse_address("127.0.0.1:8470") == Address("127.0.0.1", 8470)
    assert parse_address("[::1]:0") == Address("::1", 0)
    for wrong in (
        "8470",
        "127.0.0.1",
        ":8470",
        "::1:8470",
        "a.example:80",
        "127.0.0.1:70000",
        "1.2.3:80",
        "",
        "[]:1",
    ):
        with pytest.raises(UsageError, match="no address"):
            parse_address(wrong)


@pytest.mark.parametrize(
    ("address", "names", "tls", "expected"),
    [
        (Address("127.0.0.1", 8470), [], False, {"127.0.0.1:8470", "localhost:8470"}),
        (Address("::1", 8470), [], False, {"[::1]:8470", "localhost:8470"}),
        (Address("127.0.0.2", 8470), [], False, {"127.0.0.2:8470"}),
        (
            Address("10.0.0.5", 443),
            ["GPU1.lan"],
            True,
            {"10.0.0.5:443", "gpu1.lan:443", "10.0.0.5", "gpu1.lan"},
        ),
        (Address("0.0.0.0", 8470), [], True, set()),
        (Address("::", 8470), ["gpu1"], True, {"gpu1:8470"}),
        (Address("127.0.0.1", 443), [], False, {"127.0.0.1:443", "localhost:443"}),
    ],
)
def test_exactly_these_names(address: Address, names: list[str], tls: bool, expected: set[str]) -> None:
    assert address.hosts(names, tls=tls) == expected


def test_a_port_that_is_taken() -> None:
    bound, address = bind_tcp(Address("127.0.0.1", 0))
    assert address.port > 0
    with bound, pytest.raises(RunError, match="taken"):
        bind_tcp(address)
