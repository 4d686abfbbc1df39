"""A training step run on fake tensors: every operation happens, nothing is computed, every storage is counted.

Tensors that come from the batch alone and are small stay real, so that code which reads them (lengths, masks,
positions) takes its real way. What touches a parameter is fake (torch's FakeTensor: shape, dtype, strides and
storage without memory). A model that reads a value that is fake cannot be traced, and says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

from autoopt.memory import kernels
from autoopt.memory.ledger import Ledger

_SMALL = 1 << 20
"""Bytes up to which a tensor without a parameter in its past is computed for real."""

_aten = torch.ops.aten
_DEVICE = torch.ops.prim.device.default
_PLAIN = frozenset({Tensor, FakeTensor, nn.Parameter, nn.Buffer})
_READS = frozenset({_aten._local_scalar_dense.default, _aten.is_nonzero.default})
_INDEXED = frozenset(
    {
        _aten.index.Tensor,
        _aten._unsafe_index.Tensor,
        _aten.index_put.default,
        _aten.index_put_.default,
        _aten._unsafe_index_put.default,
        _aten._index_put_impl_.default,
    }
)
"""self, indices, and what follows."""


_ZEROING = frozenset(
    {_aten.zero_.default, _aten.zeros.default, _aten.zeros_like.default, _aten.new_zeros.default}
)


class ValueRead(RuntimeError):
    """The code asks for the value of a tensor that has none."""


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside it tensors are fake unless small and free of parameters, and `ledger` counts all of them.

    Args:
        ledger: what counts.

    Raises:
        ValueRead: when code reads a value that is not there (see `assuming`).

    Example:
        >>> trace = Trace(Ledger())
        >>> with trace:
        ...     layer = nn.Linear(100_000, 1_000)
        >>> trace.ledger.now
        400004000
    """

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger = ledger
        self.assume = False
        self.operations = 0
        """Seen so far."""
        self._zeros: set[int] = set()
        """Numbers of storages that hold zeros alone: Prodigy keeps no copy of such parameters."""
        self._fake = kernels.Fakes(allow_non_fake_inputs=True)
        self._kernels = kernels.Kernels(self._fake)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled inside a trace: torch need not shield each call from its compiler."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # more than half of all calls: whoever looks at `.device`
        if any(kind not in _PLAIN for kind in types):
            return NotImplemented  # tensors made of tensors come back as what they are made of
        self.operations += 1
        kwargs = kwargs or {}
        given = kernels.tensors(args, kwargs)
        real = [leaf for leaf in given if not isinstance(leaf, FakeTensor)]
        if len(real) == len(given):
            result = self._from_real(func, args, kwargs)
        elif func in _READS:
            return self._read(func, args[0])
        elif func is _aten.any.default and self.ledger.number(args[0]) in self._zeros:
            return torch.tensor(False)
        elif real or func in _INDEXED:
            result = self._mixed(func, args, kwargs)
        else:
            result = self._shaped(func, args, kwargs, given)
        for leaf in (result,) if isinstance(result, Tensor) else tree_iter(result):
            if isinstance(leaf, Tensor):
                self._see(func, leaf)
        return result

    def _shaped(self, func: Any, args: Any, kwargs: dict[str, Any], given: Sequence[Tensor]) -> Any:
        """The operation on fake tensors alone."""
        if given and func in kernels.QUICK:
            result = self._kernels(func, args, kwargs, given)
            if result is not NotImplemented:
                return result
        with self._fake:
            return func(*args, **kwargs)

    def _see(self, func: Any, tensor: Tensor) -> None:
        number = self.ledger.see(tensor)
        if func in _ZEROING:
            self._zeros.add(number)
        elif number in self._zeros and func._schema.is_mutable and not self.assume:
            self._zeros.discard(number)  # unless assuming: every optimizer meets the initial weights

    def faked(self, tensor: Tensor) -> Tensor:
        """A fake tensor like a real one, which is not counted: whoever owns the real one is."""
        if isinstance(tensor, FakeTensor):
            return tensor
        if type(tensor) in _PLAIN and tensor.layout is torch.strided and not tensor.storage_offset():
            copy = self._kernels.like(tensor)
        else:
            # Detached: the converter looks at a tensor's gradient, and torch warns where that is none of a leaf's.
            copy = self._fake.from_tensor(tensor.detach(), static_shapes=True)
        self.ledger.ignore(copy)
        return copy

    def counted(self, tensor: Tensor) -> Tensor:
        """A fake tensor in the place of a real one, which is counted."""
        copy = (
            tensor if isinstance(tensor, FakeTensor) else self._fake.from_tensor(tensor, static_shapes=True)
        )
        self.ledger.see(copy)
        return copy

    def stands_for(self, fake: Tensor, tensor: Tensor) -> None:
        """Remembers of `fake`, which takes the place of `tensor`, whether its values are zeros."""
        if isinstance(tensor, FakeTensor):
            zeros = self.ledger.number(tensor) in self._zeros
        else:
            zeros = tensor.is_floating_point() and not tensor.any()
        if zeros:
            self._zeros.add(self.ledger.see(fake))

    def counted_like(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """A fake tensor of the dtype of `tensor` and another shape, which is counted."""
        with self._fake:
            made = torch.empty(tuple(shape), dtype=tensor.dtype, device=tensor.device)
        self.ledger.see(made)
        return made

    @contextlib.contextmanager
    def assuming(self) -> Iterator[None]:
        """Values that are read inside are taken for 1."""
        before, self.assume = self.assume, True
        try:
            yield
        finally:
            self.assume = before

    def _read(self, func: Any, tensor: Tensor) -> Any:
        if not self.assume:
            raise ValueRead("the value of a tensor is read that a prediction does not have")
        return True if func is _aten.is_nonzero.default or tensor.dtype is torch.bool else _one(tensor)

    def _mixed(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The operation on fake and real tensors; a real one that it changes in place is given back as it is."""
        args = _without_masks(func, args)
        given, named = tree_map_only(Tensor, self.faked, (args, kwargs))
        result = self._shaped(func, given, named, kernels.tensors(given, named))
        first = args[0] if args else None
        if isinstance(first, Tensor) and not isinstance(first, FakeTensor) and result is given[0]:
            return first
        return result

    def _from_real(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Really, where that is small; otherwise only its shape."""
        if func._schema.is_mutable or func in _READS:
            return func(*args, **kwargs)
        given, named = tree_map_only(Tensor, self.faked, (args, kwargs))
        try:
            result = self._shaped(func, given, named, kernels.tensors(given, named))
        except RuntimeError:
            return func(*args, **kwargs)  # its shape depends on values, which are there
        size = sum(leaf.untyped_storage().nbytes() for leaf in tree_iter(result) if isinstance(leaf, Tensor))
        if size <= _SMALL:
            return func(*args, **kwargs)
        return result


def _one(tensor: Tensor) -> int | float:
    """The 1 of a tensor's kind of numbers."""
    return 1.0 if tensor.dtype.is_floating_point or tensor.dtype.is_complex else 1


def _without_masks(func: Any, args: Any) -> Any:
    """Boolean masks with values as the positions that they mean, whose number is then known."""
    if func not in _INDEXED or not any(_is_mask(index) for index in args[1]):
        return args
    positions: list[Tensor | None] = []
    for index in args[1]:
        if index is not None and _is_mask(index):
            positions += index.nonzero(as_tuple=True)
        else:
            positions.append(index)
    return (args[0], positions, *args[2:])


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype is torch.bool and not isinstance(index, FakeTensor)
