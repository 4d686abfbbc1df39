"""What of the user's code is shipped to the machines of a cluster, and what it is called there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoopt.errors import UserCodeError

_MISSING = ("FileNotFoundError", "ModuleNotFoundError", "No such file or directory", "No module named")


@dataclass(frozen=True)
class Shipment:
    """The folder that every machine gets as its working directory, and the target as seen from there."""

    folder: Path
    target: str

    @classmethod
    def of(cls, target: str, folder: Path | None = None) -> Shipment:
        """Of a target: the folder of a file (of the outermost package that it is in), or the working directory.

        Args:
            target: as the user gives it: a file, FILE:NAME, or package.module:function.
            folder: a larger one that has the target in it, e.g. with its data.
        """
        file, colon, name = target.rpartition(":")
        if not colon:
            file, name = target, ""
        path = Path(file)
        if path.suffix != ".py":
            return cls((folder or Path.cwd()).resolve(), target)
        path = path.resolve()
        root = path.parent
        while (root / "__init__.py").exists() and root.parent != root:
            root = root.parent
        if folder is not None and path.is_relative_to(folder.resolve()):
            root = folder.resolve()
        return cls(root, f"{path.relative_to(root)}{colon}{name}")


def with_way_to_files(error: UserCodeError, folder: Path) -> UserCodeError:
    """The error of code that found something missing on a machine of the cluster, with why that may be; others as they are.

    Args:
        error: as the worker told it.
        folder: what was shipped.
    """
    if not any(word in error.message for word in _MISSING):
        return error
    way = (
        f"On the cluster there is what was shipped: {folder}, without what its .gitignore names. --ship DIR ships a larger "
        "folder; packages, and data on paths of their own, have to be on every machine."
    )
    hint = f"{error.hint}\n{way}" if error.hint else way
    return UserCodeError(error.message, hint, where=error.where, trace=error.trace)
