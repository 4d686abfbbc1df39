"""The border to the user's code: what it raises becomes one sentence with their file and line."""

from __future__ import annotations

import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from autoopt.errors import AutooptError, UserCodeError
from autoopt.workload.context import Context, declares

_OURS = str(Path(__file__).resolve().parents[1])
_TORCH = str(Path(torch.__file__).resolve().parent)
_FOREIGN = tuple(
    str(Path(p).resolve()) for p in {sysconfig.get_paths()[k] for k in ("stdlib", "purelib", "platlib")}
)
_LONGEST = 400
_IN_LOADER = re.compile(r"^Caught (\S+) in (?:DataLoader|pin memory) ", re.MULTILINE)
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


def is_project_file(path: str, root: Path) -> bool:
    """Whether `path` is the user's own: below `root` and neither installed nor ours."""
    if path.startswith("<"):
        return False
    resolved = str(Path(path).resolve())
    if not resolved.startswith(str(root.resolve())) or resolved.startswith((_OURS, _TORCH)):
        return False
    return "site-packages" not in resolved and not resolved.startswith(_FOREIGN)


def is_ours(path: str) -> bool:
    """Whether a file is one of autoopt's or of torch's."""
    return str(Path(path).resolve()).startswith((_OURS, _TORCH))


class UserCode:
    """Calls the user's functions: passes `ctx` where it is declared, sets `sys.argv`, turns errors.

    Args:
        root: folder of the user's project; frames below it are theirs.
        argv: what `sys.argv` is while their code runs; None leaves it alone.
    """

    def __init__(self, root: Path, argv: Sequence[str] | None = None, context: Context | None = None) -> None:
        self.root = root
        self.argv = None if argv is None else list(argv)
        self.context = context or Context()

    def __call__(self, label: str, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)`, with `ctx` if it declares it. Raises UserCodeError naming `label`."""
        with self.running(label):
            if declares(function, "ctx"):
                return function(*args, ctx=self.context)
            return function(*args)

    @contextmanager
    def running(self, label: str) -> Iterator[None]:
        """User code runs inside: errors leave as UserCodeError, out-of-memory and Ctrl-C as they are."""
        argv = sys.argv
        if self.argv is not None:
            sys.argv = list(self.argv)
        try:
            yield
        except (AutooptError, KeyboardInterrupt, GeneratorExit, torch.OutOfMemoryError, MemoryError):
            raise  # ours, or an outcome that the trial itself records
        except SystemExit as error:
            raise self._error(label, error, f"called sys.exit({error.code!r})") from error
        except Exception as error:
            if "can't allocate memory" in str(error):  # how torch's CPU allocator says it
                raise MemoryError(_first_line(str(error))) from error
            raise self._error(label, error, None) from error
        finally:
            sys.argv = argv

    def _error(self, label: str, error: BaseException, did: str | None) -> UserCodeError:
        found = _from_loader(error) if did is None else None
        kind, text, frames = found or (type(error).__name__, str(error), _frames(error.__traceback__))
        if isinstance(error, SyntaxError) and error.filename:
            frames = [(error.filename, error.lineno or 0, label)]
            text = error.msg
        own = [f for f in frames if is_project_file(f[0], self.root)] or [
            f for f in frames if not f[0].startswith((_OURS, _TORCH))
        ]
        place = f"{Path(own[-1][0]).name}:{own[-1][1]}" if own else ""
        where = f"{own[-1][0]}:{own[-1][1]}" if own else ""
        # At import the place says it all: "model.py:3 raised ..."
        subject = (
            place if place and label.startswith("importing ") else f"{label} in {place}" if place else label
        )
        detail = f": {_first_line(text)}" if text.strip() else ""
        message = f"{subject} {did}" if did else f"{subject} raised {kind}{detail}"
        return UserCodeError(message, _way_out(kind, error, frames), where=where, trace=_trace(error))


def _way_out(kind: str, error: BaseException, frames: Sequence[tuple[str, int, str]]) -> str:
    """What mends the errors that everybody makes; "" for all others."""
    if kind in ("ModuleNotFoundError", "ImportError"):
        return "Install it in the environment that runs autoopt, or correct the import."
    if isinstance(error, SystemExit) and any(Path(path).name == "argparse.py" for path, *_ in frames):
        return "What your file takes as arguments goes behind `--`: autoopt profile model.py -- --data DIR."
    path = error.filename if isinstance(error, FileNotFoundError) else None
    if isinstance(path, str) and not Path(path).is_absolute():
        return (
            f"Relative paths start at the folder that autoopt runs in, here {Path.cwd()}; "
            "Path(__file__).parent is that of your file."
        )
    return ""


def _first_line(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def _frames(trace: TracebackType | None) -> list[tuple[str, int, str]]:
    return [(f.filename, f.lineno or 0, f.name) for f in traceback.extract_tb(trace)]


def _from_loader(error: BaseException) -> tuple[str, str, list[tuple[str, int, str]]] | None:
    """The original error of a DataLoader worker, which torch hands over as text."""
    text = str(error)
    match = _IN_LOADER.search(text)
    if match is None:
        return None
    kind = match.group(1).rsplit(".", 1)[-1]
    frames = [(path, int(line), name) for path, line, name in _FRAME.findall(text)]
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    return kind, last.split(": ", 1)[1] if ": " in last else "", frames


def _trace(error: BaseException) -> str:
    """The traceback without our frames and torch's own."""
    lines: list[str] = []
    for frame in traceback.extract_tb(error.__traceback__):
        resolved = str(Path(frame.filename).resolve()) if not frame.filename.startswith("<") else ""
        if not resolved.startswith((_OURS, _TORCH)) and not frame.filename.startswith("<frozen importlib"):
            lines += traceback.format_list([frame])
    head = ["Traceback (most recent call last):\n"] if lines else []
    return "".join([*head, *lines, *traceback.format_exception_only(type(error), error)])
