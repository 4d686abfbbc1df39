"""Imports what a target names: a file by path, or `package.module:function -- arguments`.

A file is registered in `sys.modules` under a name that a fresh process can import too: loader workers
started by spawn or forkserver unpickle the user's datasets by that name, with the `sys.path` they inherit.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from autoopt.errors import WorkloadError
from autoopt.workload import entrypoint
from autoopt.workload.boundary import UserCode, is_project_file
from autoopt.workload.context import Context, declares, positional
from autoopt.workload.importing import without_training
from autoopt.workload.seeding import derive, seed_everything


@dataclass
class Project:
    """The user's code, imported. `undo()` takes it out of this process again."""

    target: str
    label: str
    """What errors call it: the file's name, or module:function."""
    source: Any
    """The object that has the contract's names."""
    code: UserCode
    module: ModuleType | None = None
    path: list[str] = field(default_factory=list)
    known: frozenset[str] = frozenset()
    """Modules that were there before the import."""
    again: Callable[[], Any] | None = None
    """Calls the function that gave `source` once more."""

    def modules(self) -> dict[str, Path]:
        """Modules loaded from the project's folder: name -> file."""
        found = {}
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and name not in self.known and is_project_file(file, self.code.root):
                found[name] = Path(file)
        return found

    def undo(self) -> None:
        """Removes the project's modules and its entries of `sys.path`."""
        for name in self.modules():
            sys.modules.pop(name, None)
        for entry in self.path:
            if entry in sys.path:
                sys.path.remove(entry)
        self.path = []


def open_project(target: str, args: Sequence[str] = ()) -> Project:
    """Imports `target`. Raises WorkloadError (no such file or name) and UserCodeError."""
    seed_everything(derive(0, "import"))  # data drawn at import is then the same in every worker
    head, colon, name = target.rpartition(":")
    if not colon or (len(head) == 1 and name[:1] in "\\/"):  # a drive letter is no module
        head, name = target, ""
    if head.endswith(".py") or "/" in head or Path(head).exists():
        project = _open_file(target, Path(head), args)
    else:
        if not name and "." in head and not _missing(head):
            raise WorkloadError(
                f"{target} is a module.", f"Say what in it gives the model and its data: {target}:NAME."
            )
        if not name:
            raise WorkloadError(
                f"{target} is neither a file nor module:function.",
                "Give the path of a model.py (`autoopt init` writes one), or package.module:function.",
            )
        project = _open_module(target, head, args)
    if name:
        try:
            project.source = _call_factory(project, name, args)
        except BaseException:
            project.undo()
            raise
    return project


def _open_file(target: str, path: Path, args: Sequence[str]) -> Project:
    if path.suffix == ".ipynb":
        raise WorkloadError(f"{path} is a notebook.", "Call autoopt.choose(...) inside it, or move the code.")
    if not path.is_file() or path.suffix != ".py":
        kind = "is a folder" if path.is_dir() else "is no Python file" if path.exists() else "does not exist"
        raise WorkloadError(f"{path} {kind}.", "Give the path of a model.py; `autoopt init` writes one.")
    file = path.resolve()
    code = UserCode(file.parent, [str(path), *args], Context(args=tuple(args)))
    name, entries = _name_for(file, code)
    known = frozenset(sys.modules)
    for entry in reversed(entries):
        sys.path.insert(0, entry)
    project = Project(target, path.name, None, code, None, entries, known)
    try:
        with code.running(f"importing {path.name}"), without_training(path.name, code.root):
            if "." in name:
                importlib.import_module(name.rpartition(".")[0])
            loader = _FromSource(name, str(file))
            spec = importlib.util.spec_from_file_location(name, file, loader=loader)
            assert spec is not None  # a loader was given
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            loader.exec_module(module)
    except BaseException:
        project.undo()
        raise
    project.module = project.source = module
    return project


class _FromSource(SourceFileLoader):
    """Runs what stands in the file: bytecode of it may be that of an earlier text.

    Python takes bytecode for current when the file's size and its second are the same: an edit of one digit within
    a second of the last run would not be seen, while digests, which read the file, say that it changed.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _name_for(file: Path, code: UserCode) -> tuple[str, list[str]]:
    """Importable name of `file`, and the entries of `sys.path` that make it so."""
    if "." in file.stem:
        raise WorkloadError(
            f"{file.name} cannot be imported: its name has a dot in it.", "Rename it, e.g. to model.py."
        )
    level = _relative_level(file, code)
    folder = file.parent
    if level:
        parents = [folder, *folder.parents][:level]
        while (parents[-1] / "__init__.py").exists() and (parents[-1].parent / "__init__.py").exists():
            parents.append(parents[-1].parent)
        name = ".".join([*(p.name for p in reversed(parents)), file.stem])
        return name, [str(folder), str(parents[-1].parent)]
    if _taken(file.stem, file):
        # A module of this name is in use (one of the standard library, or another project's): taking its
        # place would break its users, so the file goes by the name of its folder, as a package's module.
        name = f"{folder.name}.{file.stem}"
        if _taken(folder.name, folder) or _taken(name, file):
            raise WorkloadError(
                f"{file.name} has the name of a module that is already imported.",
                "Rename the file, e.g. to model.py.",
            )
        return name, [str(folder), str(folder.parent)]
    return file.stem, [str(folder)]


def _taken(name: str, file: Path) -> bool:
    module = sys.modules.get(name)
    if module is None:
        return False
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    return not any(place and Path(place).resolve() == file for place in places)


def _relative_level(file: Path, code: UserCode) -> int:
    with code.running(f"importing {file.name}"):
        tree = ast.parse(file.read_bytes(), filename=str(file))
    return max((node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)), default=0)


def _open_module(target: str, name: str, args: Sequence[str]) -> Project:
    here = str(Path.cwd())
    entries = [] if here in sys.path or "" in sys.path else [here]
    sys.path[:0] = entries  # as `python -m` does
    code = UserCode(Path.cwd(), [target, *args], Context(args=tuple(args)))
    known = frozenset(sys.modules)
    project = Project(target, target, None, code, None, entries, known)
    try:
        if _missing(name):
            raise WorkloadError(
                f"There is no module {name}.",
                "It is looked for in the working directory and where packages are.",
            )
        with code.running(f"importing {name}"), without_training(name, code.root):
            module = importlib.import_module(name)
    except BaseException:
        project.undo()
        raise
    if module.__file__ is not None:
        file = Path(module.__file__).resolve()
        if not file.is_relative_to(code.root):  # an installed package: its own folder is the project
            depth = name.count(".") - (0 if hasattr(module, "__path__") else 1)
            code.root = file.parents[max(depth, 0)]
    project.module = project.source = module
    return project


def _missing(name: str) -> bool:
    """Whether the module itself is not there (and not merely something that it imports)."""
    for end in range(1, name.count(".") + 2):
        part = ".".join(name.split(".")[:end])
        try:
            if importlib.util.find_spec(part) is None:
                return True
        except ModuleNotFoundError as error:
            return bool(error.name and part.startswith(error.name))
        except Exception:  # a parent that raises while imported: the import proper reports it
            return False
    return False


def _call_factory(project: Project, name: str, args: Sequence[str]) -> Any:
    found: Any = project.source
    for part in name.split("."):
        if not hasattr(found, part):
            names = sorted(n for n in vars(found) if not n.startswith("_") and callable(getattr(found, n)))
            raise WorkloadError(
                f"{project.label}: there is no {part!r}.", f"It has: {', '.join(names) or '-'}."
            )
        found = getattr(found, part)
    if not callable(found) or _is_contract(found):
        return found
    function = found
    count = positional(function)
    values: tuple[Any, ...] = tuple(args)
    if count == 1 and (declares(function, "args") or declares(function, "argv")):
        values = (list(args),)
    elif entrypoint.reads_the_command_line(function):
        values = ()  # it finds them in sys.argv
    elif count is not None and len(args) > count:
        raise WorkloadError(
            f"{name}() takes {count} arguments and {len(args)} follow `--`.",
            "Give it as many as it takes, or none: a function without parameters finds them in sys.argv.",
        )

    def call() -> Any:
        if declares(function, "ctx"):
            return project.code(f"{name}()", function, *values)
        return project.code(f"{name}()", entrypoint.reached, function, args, values)

    result = call()
    if result is None:
        raise WorkloadError(f"{name}() returned None.", entrypoint.RETURN)
    project.again = call
    return result


def _is_contract(found: Any) -> bool:
    return hasattr(found, "train_dataloader") and not isinstance(found, type)
