"""The public API: every name told, typed, with an example; the page made from it; no page names what is not there."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import autoopt

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted([*DOCS.glob("*.md"), DOCS.parent / "README.md"])


def make_api() -> Any:
    spec = importlib.util.spec_from_file_location("make_api", DOCS / "make_api.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


API = make_api()
NAMES = API.public()


def test_the_page_is_made_from_the_docstrings_of_today() -> None:
    assert API.PAGE.read_text() == API.page(), "run `python docs/make_api.py`"


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_told_typed_and_shown(name: str) -> None:
    thing = NAMES[name]
    assert inspect.getdoc(thing), f"{name} has no docstring"
    told = thing.__doc__ + (inspect.getdoc(thing.__init__) or "" if inspect.isclass(thing) else "")
    assert ">>>" in told, f"{name} has no example"
    for place, value in {name: thing, **{f"{name}.{m}": v for m, v in API.methods(thing).items()}}.items():
        assert inspect.getdoc(value), f"{place} has no docstring"
        if not inspect.isclass(value):
            typed(place, value.fget if isinstance(value, property) else value)


def typed(place: str, function: Any) -> None:
    """Every parameter and what comes back has an annotation."""
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.name not in ("self", "cls"):
            assert parameter.annotation is not parameter.empty, f"{place}: {parameter.name} has no type"
    assert signature.return_annotation is not signature.empty, f"{place} does not say what it returns"


def test_a_docstring_becomes_lists_and_code() -> None:
    def made(a: int, *, b: str = "x") -> None:
        """One line.

        Args:
            a: the first,
                which goes on.
            b: the second.

        Raises:
            UsageError: never.

        Example:
            >>> made(1)
        """

    assert API.signature("made", made) == "made(a: int, *, b: str = 'x') -> None"
    assert API.prose(made) == (
        "One line.\n\n**Args**\n\n- `a`: the first,\n  which goes on.\n- `b`: the second.\n\n"
        "**Raises**\n\n- `UsageError`: never.\n\n**Example**\n\n```python\n>>> made(1)\n```\n"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_nothing_of_autoopt_that_is_not_there(page: Path) -> None:
    """`autoopt.x.y` in a page, in prose or in code, is a module or in one."""
    text = page.read_text()
    named = set(re.findall(r"(?<![\w./-])(autoopt(?:\.[A-Za-z_]\w*)+)(?![\w/])", text))
    missing = [name for name in sorted(named) if not exists(name)]
    assert missing == [], f"{page.name} names them"


NOT_PYTHON = {"autoopt.optimizers", "autoopt.service", "autoopt.toml"}
"""The entry point group, the systemd unit."""


def exists(name: str) -> bool:
    if name in NOT_PYTHON:
        return True
    thing: Any = autoopt
    for i, part in enumerate(name.split(".")[1:], 1):
        if not hasattr(thing, part):
            path = ".".join(name.split(".")[: i + 1])
            try:
                importlib.import_module(path)
            except ModuleNotFoundError:
                return False
            thing = sys.modules[path]
        else:
            thing = getattr(thing, part)
    return True


def test_a_name_that_is_not_there_would_be_seen() -> None:
    assert exists("autoopt.report.snippets.KINDS")
    assert not exists("autoopt.report.snippets.SORTS")
