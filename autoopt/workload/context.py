"""What a function of the user's file may ask about the run: the parameter `ctx`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True)
class Context:
    """The run as the user's functions see it; passed to those that declare a parameter `ctx`.

    Args:
        step: optimizer steps taken so far in this training.
        total_steps: length of this training (a trial's own length, or the real run's).
        real_steps: length of the real run.
        seed: seed of this training.
        device: "cpu", "cuda:0", ...
        rank, world_size: of a distributed run; 0 and 1 in a trial.
        is_trial: True in a trial, False in the real run.
        args: what followed `--` on the command line.
    """

    step: int = 0
    total_steps: int = 1
    real_steps: int = 1
    seed: int = 0
    device: str = "cpu"
    rank: int = 0
    world_size: int = 1
    is_trial: bool = True
    args: tuple[str, ...] = ()


@lru_cache(maxsize=256)
def _declares(function: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # builtins without a signature cannot ask for anything
        return False
    return name in parameters


def declares(function: Callable[..., Any], name: str) -> bool:
    """Whether `function` has a parameter of that name (`**kwargs` does not count).

    >>> declares(lambda model, ctx: None, "ctx"), declares(lambda **rest: None, "ctx")
    (True, False)
    """
    try:
        return _declares(function, name)
    except TypeError:  # an unhashable callable object
        return _declares.__wrapped__(function, name)


def positional(function: Callable[..., Any]) -> int | None:
    """How many positional arguments `function` takes besides `ctx`; None when it takes any number."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.name != "ctx" for p in parameters)
