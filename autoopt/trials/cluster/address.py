"""A cluster's address, looked at before Ray is: Ray takes a minute to say that nobody is there."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from autoopt.errors import ClusterGone, UsageError

CLIENT = "ray://"
_SECONDS = 5.0
_FORMS = "Give auto, HOST:PORT of its head (6379, unless it was started with --port), or ray://HOST:10001."


def check(address: str) -> None:
    """Whether there can be a cluster at an address now.

    Raises:
        UsageError: it is no address, or what it needs is not installed.
        ClusterGone: there is no such machine, or nothing listens there.
    """
    check_usable(address)
    if address == "auto":
        return
    host, port = _parts(address)
    way = (
        "Start one with `ray start --head`, or mend the address: the head prints its own when it starts, and "
        + (
            "listens on 10001 for ray:// addresses."
            if address.startswith(CLIENT)
            else "listens on 6379 unless told otherwise."
        )
    )
    try:
        socket.create_connection((host, port), _SECONDS).close()
    except socket.gaierror:
        raise ClusterGone(f"There is no machine named {host}: no cluster at {address}.", way) from None
    except TimeoutError:
        raise ClusterGone(
            f"{host} does not answer on port {port}: no cluster at {address}.",
            "The machine is off, or a firewall is between. " + way,
        ) from None
    except OSError as error:
        why = "nothing listens there" if isinstance(error, ConnectionRefusedError) else error.strerror
        raise ClusterGone(f"There is no Ray cluster at {address}: {why}.", way) from None


def check_usable(address: str) -> None:
    """Whether it is an address, for what is installed here; asks nobody.

    Raises:
        UsageError: it is not.
    """
    if find_spec("ray") is None:
        raise UsageError("--cluster needs Ray.", "Install it: pip install 'autoopt[ray]'.")
    if address == "auto":
        return
    if address.startswith(CLIENT) and find_spec("grpc") is None:
        raise UsageError(
            f"--cluster {address} needs Ray's client.", "Install it: pip install 'autoopt[ray]'."
        )
    _parts(address)


def _parts(address: str) -> tuple[str, int]:
    host, colon, port = address.removeprefix(CLIENT).rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 2**16) or "/" in host:
        raise UsageError(f"--cluster {address} is no address of a cluster.", _FORMS)
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether it is this machine's, and no other can reach it.

    >>> is_loopback("127.0.0.1:6379"), is_loopback("auto")
    (True, False)
    """
    return address.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]")


def token_of(environment: Mapping[str, str], home: Path) -> dict[str, str]:
    """What a client has to be told for the token that this user has; Ray finds that out itself but for ray:// addresses."""
    if "RAY_AUTH_MODE" in environment:
        return {}
    has = (
        environment.get("RAY_AUTH_TOKEN")
        or environment.get("RAY_AUTH_TOKEN_PATH")
        or (home / ".ray" / "auth_token").exists()
    )
    return {"RAY_AUTH_MODE": "token"} if has else {}
