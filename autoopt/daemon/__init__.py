"""Profiles as durable jobs on a shared machine: `autoopt serve` and what talks to it.

Nothing in here imports torch or the user's code. A job is a folder, and its runner is `autoopt profile` on that folder.

The names below are fetched when they are first used: the guard of a job is a module of this package, and starts in
the time of a bare interpreter.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoopt.daemon.async_client import AsyncClient as AsyncClient
    from autoopt.daemon.client import Client as Client

_HOMES = {"Client": "client", "AsyncClient": "async_client"}

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"autoopt.daemon.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
