"""How code is written down: literals, calls that fit a terminal, comments, YAML."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

WIDTH = 79


@dataclass(frozen=True)
class Snippet:
    """What is to be pasted into a project of one kind.

    `differences` are sentences: what this kind of project cannot express, so that its steps are not those of
    `Recommendation.build`. They are in the text as comments too.
    """

    kind: str
    language: str
    text: str
    differences: tuple[str, ...] = ()


def literal(value: object) -> str:
    """`repr` with the double quotes that formatters put, where that is safe."""
    text = repr(value)
    return text if '"' in text or "\\" in text else text.replace("'", '"')


def doc(text: object) -> str:
    """Text from outside as one line that can end neither a docstring nor a comment."""
    words: Sequence[str] = str(text).split()
    shown = " ".join(words).replace("\\", "/").replace('"""', "'''")
    return "".join(character for character in shown if character.isprintable())


def keywords(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments as a call has them.

    >>> keywords({"lr": 0.1, "mode": "max"})
    ['lr=0.1', 'mode="max"']
    """
    return [f"{key}={literal(value)}" for key, value in arguments.items()]


def call(start: str, arguments: Sequence[str], *, indent: int = 0) -> str:
    """A call on one line; where it gets too long to paste, its arguments on a line of their own, or each on one."""
    told = ", ".join(arguments)
    if len(f"{start}({told})") + indent < WIDTH:
        return f"{start}({told})"
    if len(told) + 4 + indent < WIDTH:
        return f"{start}(\n    {told}\n)"
    lines = "".join(f"    {argument},\n" for argument in arguments)
    return f"{start}(\n{lines})"


def call_in_lines(start: str, arguments: Mapping[str, str]) -> str:
    """A call with a line an argument; the values are code, and may end in a comment."""
    lines = []
    for key, value in arguments.items():
        code, mark, comment = value.partition("  # ")
        lines.append(f"    {key}={code},{mark}{comment}\n")
    return f"{start}(\n{''.join(lines)})"


def comment(text: str, *, indent: int = 0) -> str:
    """A sentence as comment lines."""
    width = WIDTH - 3 - indent
    return "\n".join(f"# {line}" for line in textwrap.wrap(text, width, break_on_hyphens=False))


def indented(text: str, columns: int = 4) -> str:
    """Every line but empty ones moved to the right."""
    return textwrap.indent(text, " " * columns)


class _Blocks(yaml.SafeDumper):
    """Mappings in blocks, sequences on one line: as people write configurations."""

    def represent_sequence(
        self,
        tag: str,
        sequence: Any,
        flow_style: bool | None = None,  # noqa: ARG002  PyYAML's signature
    ) -> yaml.SequenceNode:
        return super().represent_sequence(tag, sequence, flow_style=True)


def as_yaml(data: Mapping[str, Any]) -> str:
    """A configuration as YAML, in the order given.

    >>> print(as_yaml({"optimizer": {"lr": 1e-3, "betas": (0.9, 0.99)}}), end="")
    optimizer:
      lr: 0.001
      betas: [0.9, 0.99]
    """
    plain = _plain(data)
    return yaml.dump(plain, Dumper=_Blocks, sort_keys=False, default_flow_style=False, width=1000)


def _plain(value: Any) -> Any:
    """Tuples as lists: YAML's own tuples are a tag of Python's."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
