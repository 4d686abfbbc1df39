"""What Python objects of the user's remember besides tensors: put back, so that each training starts alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

_COPIED = (dict, list, set)


class Attributes:
    """The attributes of some objects as they are now; for a module those of all its parts.

    Dicts, lists and sets among them are remembered with what they hold (not what their items hold), and are put back as
    the same objects. Tensors are not copied.

    >>> part = nn.Linear(1, 1)
    >>> part.seen = [1]
    >>> before = Attributes([part])
    >>> part.seen.append(2); part.extra = nn.Linear(1, 1)
    >>> before.restore()
    >>> part.seen, hasattr(part, "extra")
    ([1], False)
    """

    def __init__(self, owners: Iterable[Any]) -> None:
        parts = {id(part): part for owner in owners for part in _parts(owner)}
        self._kept = [(part, dict(vars(part)), _contents(part)) for part in parts.values()]

    def restore(self) -> None:
        """Puts everything back."""
        for part, values, contents in self._kept:
            for value, held in contents:
                value.clear()
                value.extend(held) if isinstance(value, list) else value.update(held)
            vars(part).clear()
            vars(part).update(values)


def _parts(owner: Any) -> list[Any]:
    return list(owner.modules()) if isinstance(owner, nn.Module) else [owner]


def _contents(part: Any) -> list[tuple[Any, Any]]:
    return [(value, value.copy()) for value in vars(part).values() if isinstance(value, _COPIED)]
