"""The code of a job as it was handed in: what is run is a copy, so that editing goes on without harm.

Copied is the target's file and every module of the project that it imports (as far as the source says so); all else
beside it (data, configurations) is linked, so that `Path(__file__).parent / "data.npz"` is found. The copy mirrors
the project from its root on: the nearest folder above the target with a `.git` or a `pyproject.toml`, or else the
target's own.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from autoopt.errors import RunError, UsageError, WorkloadError
from autoopt.files import raise_unwritable, read_record, sync_folder, write_record
from autoopt.records import Record

_MARKS = (".git", "pyproject.toml", "setup.py")
_LEVELS = 6
"""So far above the target a project's root is looked for."""
_ENTRIES = 50_000
"""So many files and folders beside the code are linked at most."""
FILE_NAME = "snapshot.json"


class Snapshot(Record):
    """What was copied."""

    root: str | None = Field(None, description="the project's folder; None: it was sent, and is nowhere else")
    target: str = Field(description="to be given to `autoopt profile`")
    cwd: str = Field(description="in which to run it")
    files: dict[str, str] = Field({}, description="file of the code, relative to the root -> its SHA-256")
    digest: str = Field("", description="of all these")


def take(target: str, cwd: Path, folder: Path) -> Snapshot:
    """Copy the code of `target`, as seen from `cwd`, to `folder`/project; what was copied is recorded beside it.

    Raises:
        WorkloadError: there is no such file.
        RunError: what is there cannot be read, or the copy cannot be written; DiskFull when there is no space.
    """
    file, name = _split(target)
    copy = folder / "project"
    if file is None:
        start = _module_file(cwd, target.partition(":")[0])
        root, entries = cwd, [cwd]
        code = _reach(start, root, entries) if start else []
        seen, where = target, copy
        if not code:  # an installed package: nothing in the working directory is the job's code
            return _record(folder, Snapshot(root=None, target=target, cwd=str(cwd)))
    else:
        start = Path(os.path.realpath(cwd / file))
        if not start.is_file():
            raise WorkloadError(
                f"{file} does not exist in {cwd}.", "Give the path of a model.py; `autoopt init` writes one."
            )
        root = _root(start.parent)
        code = _reach(start, root, [start.parent, *_package_parents(start, root)])
        seen, where = str(copy / start.relative_to(root)) + name, cwd
    files = _copy(code, root, copy)
    snapshot = Snapshot(root=str(root), target=seen, cwd=str(where), files=files, digest=_digest(files))
    return _record(folder, snapshot)


def adopt(target: str, bundle: Path, folder: Path) -> Snapshot:
    """Take a project that was sent, unpacked in the folder `bundle`, which is moved to `folder`/project.

    Raises:
        WorkloadError: it has no such file.
        UsageError: the target leaves the project.
    """
    copy = folder / "project"
    file, name = _split(target)
    inside = Path(os.path.realpath(bundle))
    if file is not None:
        start = Path(os.path.realpath(inside / file))
        if not start.is_relative_to(inside):
            raise UsageError(
                f"{file} is not inside the project that was sent.", "Give a path relative to it."
            )
        if not start.is_file():
            raise WorkloadError(f"There is no {file} in the project that was sent.", "Check the path in it.")
        target = str(copy / start.relative_to(inside)) + name
    try:
        try:
            inside.rename(copy)
        except OSError:  # on another file system
            shutil.copytree(inside, copy)
        files = {
            path.relative_to(copy).as_posix(): _sha(path)
            for path in sorted(copy.rglob("*.py"))
            if path.is_file()
        }
    except OSError as error:
        raise_unwritable(error, copy, "The job was not accepted.")
    return _record(folder, Snapshot(target=target, cwd=str(copy), files=files, digest=_digest(files)))


def read(folder: Path) -> Snapshot:
    """The record of a job's snapshot. Raises RunError when it is gone or damaged."""
    return read_record(folder / FILE_NAME, Snapshot)


def changes(snapshot: Snapshot) -> list[str]:
    """What of the code has changed since it was handed in, in words."""
    if snapshot.root is None:
        return []
    found = []
    for name, sha in snapshot.files.items():
        path = Path(snapshot.root) / name
        try:
            if _sha(path) != sha:
                found.append(f"{name} was edited")
        except OSError:
            found.append(f"{name} is gone")
    return found


def in_users_words(text: str, snapshot: Snapshot, folder: Path) -> str:
    """`text` with the paths of the user's own files in the place of those of the copies."""
    copy = str(folder / "project")
    return text.replace(copy, snapshot.root) if snapshot.root else text.replace(copy + os.sep, "")


def _split(target: str) -> tuple[str | None, str]:
    """The file that a target names, if it does, and ":function" after it."""
    head, colon, name = target.rpartition(":")
    if colon and (head.endswith(".py") or "/" in head):
        return head, colon + name
    if target.endswith(".py") or "/" in target:
        return target, ""
    return None, ""


def _root(folder: Path) -> Path:
    candidate = folder
    home = Path.home()
    for _ in range(_LEVELS):
        if any((candidate / mark).exists() for mark in _MARKS):
            return candidate
        if candidate.parent in (candidate, home):
            break
        candidate = candidate.parent
    # A package's modules import each other by the name of the package, which its parent's folder makes known.
    while (folder / "__init__.py").exists() and folder.parent != folder:
        folder = folder.parent
    return folder


def _package_parents(file: Path, root: Path) -> list[Path]:
    parents = []
    folder = file.parent
    while folder != root and folder.is_relative_to(root):
        folder = folder.parent
        parents.append(folder)
    return parents


def _reach(start: Path, root: Path, entries: list[Path]) -> list[Path]:
    """The files of the project that `start` imports, itself first."""
    found: dict[Path, None] = {}
    waiting = [start]
    while waiting:
        file = waiting.pop()
        if file in found or not file.is_relative_to(root):
            continue
        found[file] = None
        waiting += [package for package in _packages(file, root) if package not in found]
        waiting += [module for module in _imported(file, entries) if module not in found]
    return list(found)


def _packages(file: Path, root: Path) -> Iterator[Path]:
    folder = file.parent
    while folder.is_relative_to(root) and (init := folder / "__init__.py").is_file():
        yield init
        folder = folder.parent


def _imported(file: Path, entries: list[Path]) -> Iterator[Path]:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):  # the run itself will say so, with the line
        return
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}.", "Check its permissions.") from error
    for node in ast.walk(tree):
        for base, names in _names(node, file):
            for entry in [base] if base else entries:
                for name in names:
                    if (module := _module_file(entry, name)) is not None:
                        yield module


def _names(node: ast.AST, file: Path) -> Iterator[tuple[Path | None, list[str]]]:
    """The modules that a statement may import: the folder to look in (None: the path), and dotted names."""
    if isinstance(node, ast.Import):
        yield None, [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = None
        if node.level:
            base = file.parents[node.level - 1] if node.level <= len(file.parents) else None
            if base is None:
                return
        head = node.module or ""
        # What follows `import` may be a module of the package, or a name in it.
        yield base, [head, *(f"{head}.{alias.name}".lstrip(".") for alias in node.names)]
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module" and node.args:
        argument = node.args[0]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield None, [argument.value]


def _module_file(entry: Path, name: str) -> Path | None:
    parts = [part for part in name.split(".") if part]
    if not parts or "*" in parts:
        return None
    place = entry.joinpath(*parts)
    for candidate in (place.with_name(f"{parts[-1]}.py"), place / "__init__.py"):
        with suppress(OSError, ValueError):
            if candidate.is_file():
                return Path(os.path.realpath(candidate))
    # `import package.module.Name`: the part that is a module counts.
    return _module_file(entry, ".".join(parts[:-1])) if len(parts) > 1 else None


def _copy(code: list[Path], root: Path, copy: Path) -> dict[str, str]:
    files = {}
    try:
        parts = list(_Tree(root, code, copy).folders())
        for part in parts:
            place = copy / part.path.relative_to(root)
            place.mkdir(parents=True, exist_ok=True)
            for entry in part.links:
                (place / entry).symlink_to(part.path / entry)
        for file in sorted(code):
            name = file.relative_to(root).as_posix()
            content = file.read_bytes()
            files[name] = hashlib.sha256(content).hexdigest()
            with (copy / name).open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        for part in parts:
            sync_folder(copy / part.path.relative_to(root))
    except OSError as error:
        raise_unwritable(error, copy, "The job was not accepted.")
    return files


@dataclass(frozen=True)
class _Folder:
    path: Path
    links: list[str]


class _Tree:
    """The folders that hold code, directly or below, and what else is in them."""

    def __init__(self, root: Path, code: list[Path], copy: Path) -> None:
        self._code, self._copy = set(code), copy
        self._real = {root}
        for file in code:
            folder = file.parent
            while folder != root:
                self._real.add(folder)
                folder = folder.parent

    def folders(self) -> Iterator[_Folder]:
        count = 0
        for folder in sorted(self._real):
            links = []
            for path in sorted(folder.iterdir()):
                # Compiled code of the originals must not be taken for that of the copies.
                if path in self._code or path in self._real or path.name == "__pycache__":
                    continue
                # A link to what holds the copy would be a way round in circles, for ever to whoever follows links.
                if self._copy.is_relative_to(path):
                    continue
                links.append(path.name)
            count += len(links)
            if count > _ENTRIES:
                raise UsageError(
                    f"{folder} has more than {_ENTRIES} files beside the code.",
                    "Move the data to a folder of its own.",
                )
            yield _Folder(folder, links)


def _record(folder: Path, snapshot: Snapshot) -> Snapshot:
    write_record(folder / FILE_NAME, snapshot)
    return snapshot


def _digest(files: dict[str, str]) -> str:
    text = "".join(f"{name}\0{sha}\n" for name, sha in sorted(files.items()))
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest() if files else ""


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
