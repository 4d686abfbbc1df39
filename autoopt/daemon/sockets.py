"""The sockets that the daemon listens on: a Unix socket that only its user can open, and a TCP port if asked for."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import re
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from autoopt.errors import RunError, UsageError

_LONGEST = 100
"""Bytes of a socket's path; the system's limit is 108, and a name beside it is needed."""
_BACKLOG = 256


class UnixSocket:
    """A listening Unix socket at `path`: 0600 in a folder that is 0700, from the first instant on.

    One that a daemon left behind which is gone is replaced; one that is answered is not.

    Args:
        path: where; its folder is made when it is not there.

    Raises:
        RunError: the folder can be entered by others or is another user's, something else lies at the path, or a
            daemon answers there.
        UsageError: the path is longer than the system allows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        if len(os.fsencode(self.path)) > _LONGEST:
            raise UsageError(
                f"The socket's path {self.path} is longer than {_LONGEST} bytes.",
                "Choose a shorter one with --socket.",
            )
        _private(self.path.parent)
        self._lock = self._take()
        try:
            self._refuse_foreign()
            self.socket, self._identity = self._bind()
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Stop listening, and remove the socket unless another one lies there now. Doing it twice is harmless."""
        self.remove()
        self.socket.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def remove(self) -> None:
        """Remove the socket's file: whoever comes now finds that no daemon is there, not one that does not answer."""
        with suppress(OSError):
            found = self.path.lstat()
            if _identity(found) == self._identity:
                self.path.unlink()

    def _take(self) -> int:
        # Whether the socket is stale can be told by one daemon at a time only.
        lock = os.open(
            self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise self._answered() from None
        return lock

    def _refuse_foreign(self) -> None:
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise RunError(
                f"{self.path} is there already, and is no socket.", "Choose another path with --socket."
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2.0)
            try:
                probe.connect(str(self.path))
            except (ConnectionRefusedError, FileNotFoundError):
                return
            except OSError:  # a full queue, or no answer in time: somebody listens
                pass
        raise self._answered()

    def _bind(self) -> tuple[socket.socket, tuple[int, ...]]:
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Under a name of its own first: a client finds the old socket or the new one.
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            # Linux gives the file the mode of the unbound socket, so it is never there with another one; a umask
            # would be the whole process's.
            os.fchmod(bound.fileno(), 0o600)
            with suppress(FileNotFoundError):
                beside.unlink()
            bound.bind(str(beside))
            found = beside.lstat()
            if stat.S_IMODE(found.st_mode) != 0o600:
                raise RunError(
                    f"The file system of {self.path} keeps no permissions of a socket.",
                    "Choose a place on a local disk with --socket.",
                )
            bound.listen(_BACKLOG)
            beside.rename(self.path)
            identity = _identity(self.path.lstat())
        except BaseException as error:
            bound.close()
            with suppress(OSError):
                beside.unlink()
            if isinstance(error, OSError):
                raise RunError(
                    f"The socket {self.path} could not be made: {error.strerror}.",
                    "Choose another place with --socket.",
                ) from error
            raise
        return bound, identity

    def _answered(self) -> RunError:
        return RunError(
            f"A daemon answers at {self.path} already.",
            "Use that one (`autoopt jobs`), stop it, or choose another path with --socket.",
        )


def _identity(found: os.stat_result) -> tuple[int, ...]:
    # The number alone may be that of a file that was made since.
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _private(folder: Path) -> None:
    with suppress(FileExistsError):
        try:
            folder.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            raise
        except OSError as error:
            raise RunError(
                f"The folder {folder} of the socket could not be made: {error.strerror}.",
                "Choose another place with --socket.",
            ) from error
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise RunError(
            f"The folder {folder} of the socket is not one that only you can enter.",
            f"`chmod 700 {folder}` if it is yours and for this alone, or choose another with --socket.",
        )


@dataclass(frozen=True)
class Address:
    """Where to listen on TCP.

    Args:
        host: an IP address.
        port: 0 for one that is free.
    """

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only processes of this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def shown(self) -> str:
        """As it stands in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def hosts(self, names: list[str], *, tls: bool) -> frozenset[str]:
        """The values of a Host header under which it is reached: exactly these.

        Args:
            names: further names of the machine, without a port.
            tls: whether the port that may be left out is 443 and not 80.
        """
        found = (
            {self.shown.rpartition(":")[0]} if not ipaddress.ip_address(self.host).is_unspecified else set()
        )
        if self.host in ("127.0.0.1", "::1"):
            found.add("localhost")
        found |= {name.lower() for name in names}
        with_port = {f"{name}:{self.port}" for name in found}
        return frozenset(with_port | (found if self.port == (443 if tls else 80) else set()))


def parse_address(text: str) -> Address:
    """An address from "127.0.0.1:8470", "localhost:8470" or "[::1]:8470".

    Raises:
        UsageError: not of that form; the hint shows it.

    Example:
        >>> parse_address("localhost:8470")
        Address(host='127.0.0.1', port=8470)
    """
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    try:
        if match is None:
            raise ValueError
        host = match[1] or match[2]
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        port = int(match[3])
        if port > 65535:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--http {text} is no address.", "Give an IP address and a port: 127.0.0.1:8470, or [::1]:8470."
        ) from None
    return Address(str(address), port)


def bind_tcp(address: Address) -> tuple[socket.socket, Address]:
    """A listening socket, and where it is.

    Raises:
        RunError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address.host, address.port))
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        taken = error.errno == errno.EADDRINUSE
        why = "the port is taken" if taken else str(error.strerror)
        raise RunError(
            f"The daemon cannot listen on {address.shown}: {why}.", "Choose another address with --http."
        ) from error
    return bound, Address(address.host, bound.getsockname()[1])
