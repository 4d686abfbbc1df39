"""The two kinds of templates: pages, whose values are escaped, and scripts, whose values are written as Python."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from autoopt.report import words
from autoopt.report.snippets.text import doc, literal


def page(name: str) -> Template:
    """A template of HTML."""
    return _pages().get_template(name)


def code(name: str) -> Template:
    """A template of Python: values from outside go through `py` or `doc`."""
    return _scripts().get_template(name)


@cache
def _pages() -> Environment:
    environment = _environment(escape=True)
    environment.filters |= {
        "number": words.number,
        "scaled": words.scaled,
        "duration": words.duration,
        "interval": words.interval,
        "promised": words.promised,
        "steps": words.steps,
    }
    return environment


@cache
def _scripts() -> Environment:
    environment = _environment(escape=False)
    environment.filters |= {"py": literal, "doc": doc}
    return environment


def _environment(escape: bool) -> Environment:
    return Environment(
        loader=PackageLoader("autoopt.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not escape,
        autoescape=escape,
    )
