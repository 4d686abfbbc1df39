"""What a target of an export is, and what targets share: a missing package, and something in the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from autoopt.errors import RunError, UsageError
from autoopt.export.exported import Exported

WAY_OUT = "Choose another place or --name, or replace what is there with --overwrite."


class Target(Protocol):
    """Somewhere that a run is written to."""

    def check(self, run: Exported, /) -> None:
        """Refuses, before anything is written anywhere, what cannot succeed.

        Raises:
            UsageError: a package is missing.
            RunError: something is in the way.
        """

    def write(self, run: Exported) -> dict[str, Any]:
        """Writes all or nothing; returns what was written, "target" and "to" among it.

        Raises:
            RunError: it cannot be written to.
        """


@contextmanager
def needs(option: str, extra: str) -> Iterator[None]:
    """Turns a package that is missing into the line that installs it.

    Raises:
        UsageError: the extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0] or "a package"
        raise UsageError(
            f"{option} needs {package}, which is not installed.", f"pip install 'autoopt[{extra}]'"
        ) from error


def refuse_existing(paths: list[Path], *, overwrite: bool) -> None:
    """Refuse to replace files that nobody asked to replace, and folders in any case.

    Raises:
        RunError: there is one.
    """
    for path in paths:
        if path.is_dir():
            raise RunError(f"{path} is a folder.", "Give the name of a file.")
        if path.exists() and not overwrite:
            raise RunError(f"{path} is there already.", WAY_OUT)
