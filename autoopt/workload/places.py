"""Where in the user's code something was called from, in words."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autoopt.workload.boundary import is_ours


def caller() -> str:
    """The innermost line that is neither ours nor torch's: "train() in loop.py:12"."""
    frame = sys._getframe(1)
    while frame.f_back is not None and is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    name = frame.f_code.co_name
    shown = "" if name.startswith("<") else f"{name}() in "
    return f"{shown}{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def defined(function: Callable[..., Any]) -> str:
    """A function and where it begins: "run() in loop.py:5"; its name alone where that is not known.

    >>> defined(len)
    'len()'
    """
    name = getattr(function, "__name__", type(function).__name__)
    code = getattr(function, "__code__", None)
    return f"{name}()" if code is None else f"{name}() in {Path(code.co_filename).name}:{code.co_firstlineno}"
