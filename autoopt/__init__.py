"""Chooses and tunes the optimizer for your PyTorch model, inside a time budget, and says how sure it is.

>>> import autoopt
>>> autoopt.choose.__name__, autoopt.profile.__name__
('choose', 'profile')

Importing this package loads no torch: the names below are fetched when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoopt.own_loops import tune as tune
    from autoopt.pipeline import choose as choose
    from autoopt.pipeline import profile as profile
    from autoopt.records import Recommendation as Recommendation
    from autoopt.watch import Watch as Watch

__version__ = "0.1.0"

_HOMES = {
    "choose": "pipeline",
    "profile": "pipeline",
    "tune": "own_loops",
    "Recommendation": "records",
    "Watch": "watch",
}

__all__ = ["Recommendation", "Watch", "__version__", "choose", "profile", "tune"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"autoopt.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
