"""Which storages are alive, in the order of their births and deaths."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

import torch
from torch import Tensor


class Ledger:
    """Counts storages that come and go, each once, however many tensors look at it.

    A storage is known by the Python object that torch keeps for it, so a weak reference tells of its end.

    Args:
        grain: bytes are rounded up to a multiple of it, as an allocator does.

    Example:
        >>> ledger = Ledger()
        >>> x = torch.zeros(10)
        >>> _, again = ledger.see(x), ledger.see(x[2:])
        >>> ledger.now
        40
        >>> del x, again
        >>> ledger.now
        0
    """

    def __init__(self, grain: int = 1) -> None:
        self._grain = grain
        self._numbers: dict[int, int] = {}
        self._watched: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._sizes: list[int] = []
        self._moves: list[int] = []
        self.now = 0

    def see(self, tensor: Tensor) -> int:
        """Counts the tensor's storage if it is new; its number."""
        return self._see(tensor, counted=True)

    def ignore(self, tensor: Tensor) -> int:
        """The tensor's storage stands for one that is counted elsewhere."""
        return self._see(tensor, counted=False)

    def number(self, tensor: Tensor) -> int | None:
        """The number of the tensor's storage, None if it was never seen."""
        return self._numbers.get(tensor.untyped_storage()._cdata)

    def size(self, number: int) -> int:
        """Bytes of a storage, rounded."""
        return self._sizes[number]

    def bytes(self, tensors: Iterable[Tensor]) -> int:
        """Bytes of the storages under some tensors, each once, rounded."""
        return sum(self.size(number) for number in {self.see(tensor) for tensor in tensors})

    def mark(self) -> int:
        """Now, as `course` takes it."""
        return len(self._moves)

    def alive(self, mark: int | None = None) -> frozenset[int]:
        """The storages alive at a mark, or now."""
        found: set[int] = set()
        for move in self._moves[:mark]:
            found.add(move) if move >= 0 else found.discard(~move)
        return frozenset(found)

    def course(self, begin: int, *, without: frozenset[int] = frozenset()) -> list[int]:
        """Bytes alive at a mark and after each birth and death since, storages in `without` not counted."""
        total = sum(self._sizes[number] for number in self.alive(begin) - without)
        found = [total]
        for move in self._moves[begin:]:
            number = move if move >= 0 else ~move
            if number not in without:
                total += self._sizes[number] if move >= 0 else -self._sizes[number]
                found.append(total)
        return found

    def _see(self, tensor: Tensor, *, counted: bool) -> int:
        storage = tensor.untyped_storage()
        key = storage._cdata
        number = self._numbers.get(key)
        if number is not None:
            return number
        number = len(self._sizes)
        size = -(-storage.nbytes() // self._grain) * self._grain if counted else 0
        self._sizes.append(size)
        self._numbers[key] = number
        self._moves.append(number)
        self.now += size
        self._watched[key] = weakref.ref(storage, lambda _: self._end(key))
        return number

    def _end(self, key: int) -> None:
        number = self._numbers.pop(key)
        del self._watched[key]
        self._moves.append(~number)
        self.now -= self._sizes[number]
