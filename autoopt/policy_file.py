"""Reads a YAML file and remembers on which line each key stands, so that an error can say where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autoopt.errors import PolicyError

Located = tuple[str | int, ...]
"""Keys from the top of the file down, e.g. ("candidates", "adamw", "lr")."""

Problem = tuple[Located, str, str]
"""Where, what is wrong, the way out."""


@dataclass(frozen=True)
class Document:
    """A file's content with the line of each key."""

    path: Path
    data: Any
    lines: dict[Located, int]

    def error(self, problems: Iterable[Problem]) -> PolicyError:
        """The first problem in the order of the file, and how many there are besides."""
        found = sorted(
            ((self._line(where), where, text, hint) for where, text, hint in problems), key=_line_first
        )
        line, where, text, hint = found[0]
        more = f" ({len(found) - 1} more problems follow.)" if len(found) > 1 else ""
        key = ".".join(str(part) for part in where) or "the whole file"
        return PolicyError(f"{self.path}, line {line}, {key}: {text.rstrip('.')}.", hint + more)

    def _line(self, where: Located) -> int:
        # A validator may point deeper than the file goes (a missing key, an item given as text).
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)


def _line_first(found: tuple[int, Located, str, str]) -> int:
    return found[0]


def read(path: Path) -> Document:
    """Reads one YAML document.

    Raises:
        PolicyError: not readable, not YAML, empty, or a key given twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PolicyError(
            f"The policy {path} cannot be read: {reason}.", "`autoopt policies` lists those that are shipped."
        ) from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        reason = getattr(error, "problem", None) or str(error)
        raise PolicyError(
            f"{path}, line {line}: this is not YAML: {reason}.", "Check indentation, colons and quotes there."
        ) from error
    if not isinstance(node, yaml.MappingNode):
        raise PolicyError(
            f"{path}, line 1: a policy is a mapping of keys to values.",
            "`autoopt policies balanced` shows one.",
        )
    lines: dict[Located, int] = {}
    _walk(node, (), lines, path)
    return Document(path, data, lines)


def _walk(node: yaml.Node, where: Located, lines: dict[Located, int], path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*where, str(key.value))
            if place in lines:
                line, name = key.start_mark.line + 1, ".".join(map(str, place))
                raise PolicyError(
                    f"{path}, line {line}, {name}: this key is given twice.",
                    f"The first is on line {lines[place]}; keep one.",
                )
            lines[place] = key.start_mark.line + 1
            _walk(value, place, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*where, index)] = value.start_mark.line + 1
            if isinstance(value, yaml.ScalarNode):
                lines.setdefault((*where, value.value), value.start_mark.line + 1)
            _walk(value, (*where, index), lines, path)
