"""Writes docs/api.md from the docstrings of the public API: `python docs/make_api.py`.

Public is what `autoopt.__all__` names, and what `__all__` of each module of `autoopt.integrations` does.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import autoopt

PAGE = Path(__file__).with_name("api.md")
HEAD = """# The API

Made from the docstrings by `python docs/make_api.py`; a test says when it is stale. Everything here is imported from
`autoopt`, or from the module that its heading names. Errors are those of `autoopt.errors`: each has a `message`, a `hint`
that names the way out, and an `exit_code`.
"""
_SECTIONS = ("Args", "Returns", "Raises", "Yields", "Example", "Examples", "Attributes")
_WIDTH = 100


def public() -> dict[str, Any]:
    """The public names, each with its module in front: `autoopt.choose`."""
    found = {f"autoopt.{name}": getattr(autoopt, name) for name in autoopt.__all__ if name != "__version__"}
    for name in integrations():
        module = importlib.import_module(name)
        found |= {f"{name}.{each}": getattr(module, each) for each in getattr(module, "__all__", ())}
    return found


def integrations() -> list[str]:
    """Modules of `autoopt.integrations` that can be imported here."""
    try:
        package = importlib.import_module("autoopt.integrations")
    except ModuleNotFoundError:
        return []
    names = [f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    return [name for name in names if not name.rpartition(".")[2].startswith("_")]


def methods(thing: Any) -> dict[str, Any]:
    """Public methods and properties that a class defines itself."""
    if not inspect.isclass(thing):
        return {}
    own = {
        name: value for name, value in vars(thing).items() if not name.startswith("_") or name == "__call__"
    }
    kept = (classmethod, staticmethod, property)
    return {
        name: getattr(thing, name) if isinstance(value, classmethod | staticmethod) else value
        for name, value in own.items()
        if isinstance(value, kept) or inspect.isfunction(value)
    }


def page() -> str:
    """The whole of api.md."""
    names = public()
    contents = "".join(f"- [`{name}`](#{anchor(name)})\n" for name in names)
    return HEAD + "\n" + contents + "".join(section(name, thing) for name, thing in names.items())


def anchor(name: str) -> str:
    """As GitHub makes it from a heading.

    >>> anchor("autoopt.choose")
    'autooptchoose'
    """
    return re.sub(r"[^\w-]", "", name).lower()


def section(name: str, thing: Any) -> str:
    """A name with its signature, its docstring and its methods."""
    text = f"\n## {name}\n\n```python\n{signature(name.rpartition('.')[2], thing)}\n```\n\n{prose(thing)}"
    for method, value in methods(thing).items():
        text += f"\n### {name}.{method}\n\n"
        if not isinstance(value, property):
            text += f"```python\n{signature(method, value)}\n```\n\n"
        text += prose(value)
    return text


def signature(name: str, thing: Any) -> str:
    """As a call is written, a parameter a line where it gets long."""
    try:
        given = inspect.signature(thing)
    except ValueError:
        return name
    shown = [p for p in given.parameters.values() if p.name != "self"]
    # A record is made by autoopt and read by the user: its fields are not arguments to be given.
    if hasattr(thing, "model_fields"):
        return name
    back = "" if given.return_annotation is given.empty or inspect.isclass(thing) else _named(given)
    parts = list(_parts(shown))
    line = f"{name}({', '.join(parts)}){back}"
    return (
        line
        if len(line) <= _WIDTH
        else f"{name}(\n{''.join(f'    {part},{chr(10)}' for part in parts)}){back}"
    )


def _named(given: inspect.Signature) -> str:
    back = given.return_annotation
    return f" -> {back if isinstance(back, str) else getattr(back, '__name__', back)}"


def _parts(shown: list[inspect.Parameter]) -> Iterator[str]:
    starred = False
    for parameter in shown:
        if parameter.kind is parameter.VAR_POSITIONAL:
            starred = True
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        yield re.sub(r": '([^']*)'", r": \1", str(parameter))


def prose(thing: Any) -> str:
    """A docstring as Markdown: sections as lists, examples as code."""
    lines: list[str] = []
    section_now = ""
    for line in (inspect.getdoc(thing) or "").splitlines():
        heading = line.removesuffix(":")
        if line.endswith(":") and heading in _SECTIONS:
            section_now = heading
            lines += [f"**{heading}**", ""]
        elif section_now in ("Args", "Raises", "Attributes") and line.startswith("    "):
            lines.append(_entry(line))
        else:
            if line and not line.startswith(" "):
                section_now = ""
            lines.append(line.strip() if section_now else line)
    return _with_code(lines) + "\n"


def _entry(line: str) -> str:
    """`    name: text` as an item of a list; a line that goes on stays beneath it."""
    text = line[4:]
    if text.startswith(" "):
        return "  " + text.strip()
    names, mark, rest = text.partition(": ")
    return f"- `{names}`: {rest}" if mark else f"- {text}"


def _with_code(lines: list[str]) -> str:
    """Lines of an interactive session, until an empty one, as a block of code."""
    made: list[str] = []
    inside = False
    for line in [*lines, ""]:
        begins = line.lstrip().startswith(">>>")
        if begins and not inside:
            made += ["```python"]
            inside = True
        elif inside and not line.strip():
            made += ["```"]
            inside = False
        made.append(line.replace("  # doctest: +SKIP", "") if inside else line)
    return "\n".join(made).strip()


def main() -> int:
    """Writes the page; with --check only says whether it is stale."""
    if "--check" in sys.argv[1:]:
        stale = not PAGE.exists() or PAGE.read_text() != page()
        print(
            "docs/api.md is stale: run `python docs/make_api.py`."
            if stale
            else "docs/api.md is as it should be."
        )
        return int(stale)
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
