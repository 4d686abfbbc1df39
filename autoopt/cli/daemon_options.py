"""What the daemon's commands share: how it is reached, and what is said when its packages are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from autoopt.daemon.client import Client

Socket = Annotated[
    Path | None, typer.Option(help="The daemon's socket. Default: run/autoopt.sock in AUTOOPT_HOME.")
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id; `autoopt jobs` lists them.")]


@contextmanager
def needs_packages() -> Iterator[None]:
    """Turns a package that is missing into the line that installs it.

    Raises:
        UsageError: the extra `daemon` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "autoopt":
            raise
        from autoopt.errors import UsageError

        raise UsageError(
            f"The daemon and its commands need {package or 'a package'}, which is not installed.",
            "pip install 'autoopt[daemon]'",
        ) from error


def connect(socket: Path | None) -> Client:
    """The client for the daemon that is meant: --socket, else AUTOOPT_URL with AUTOOPT_TOKEN, else this user's own."""
    with needs_packages():
        from autoopt.daemon.client import Client
    return Client(socket=socket)
