"""Peak memory of one training step: what the allocator saw on CUDA, what autograd kept elsewhere.

On the CPU there is no allocator to ask, and the process's resident memory mixes in the interpreter, the data
and earlier trials. There the step's own tensors are counted:

    peak = parameters + buffers + gradients + optimizer state + max over time (activations saved for backward)

each storage once. Gradients appear while activations go, so this is an upper bound on what the tensors hold
together; temporaries inside an operator are not seen.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import nn
from torch.autograd import graph

from autoopt.hardware.gpu import process_bytes
from autoopt.optim.build import plain, state_bytes

Source = Literal["allocator", "tracked", "unknown"]

_ASKS = "disable_saved_tensors_hooks"


class StepMemory:
    """Measures the peak memory of the training step that runs inside it.

    Costs a Python call per saved tensor, so it is meant for one step of a trial.

    Args:
        model: the model that trains; its parameters and buffers count as such, not as activations.
        device: where it trains.
        batch: tensors, or dicts, lists and tuples of them, that are not to count as activations.

    Example:
        >>> model = nn.Linear(4, 2, bias=False)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with StepMemory(model, torch.device("cpu")) as memory:
        ...     model(torch.ones(3, 4)).sum().backward()
        >>> memory.peak_bytes(optimizer)    # weight 32, its gradient 32, the input kept for it 48
        (112, 'tracked')
    """

    def __init__(self, model: nn.Module, device: torch.device, batch: object = None) -> None:
        self._model = model
        self._device = device
        self._batch = batch
        self._done = False
        self._live = _Live(frozenset())
        self._hooks: graph.saved_tensors_hooks | None = None
        self._stand_aside: Callable[[str], Any] | None = None
        self._blind = False
        self._gradients = 0

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return self
        owned = _storages([*self._model.parameters(), *self._model.buffers(), *_tensors(self._batch)])
        self._live = _Live(frozenset(owned))
        self._hooks = graph.saved_tensors_hooks(self._live.keep, lambda kept: kept.tensor)
        self._stand_aside = getattr(graph, _ASKS)
        setattr(graph, _ASKS, self._without_hooks)
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._hooks is not None and self._stand_aside is not None:
            self._hooks.__exit__(kind, error, trace)
            setattr(graph, _ASKS, self._stand_aside)
        # Now, because a caller may clear the gradients before it asks.
        gradients = [p.grad for p in self._model.parameters() if p.grad is not None]
        self._gradients = sum(_storages(gradients).values())
        self._done = error is None
        if error is not None:
            # A result that its own operator keeps is a cycle through autograd that no collector sees. Backward breaks
            # it; a step that failed, for lack of memory say, never gets there.
            self._live.let_go()

    def peak_bytes(self, optimizer: torch.optim.Optimizer) -> tuple[int | None, Source]:
        """Peak bytes and how they were found: (None, "unknown") if the step did not end or hid its tensors.

        Args:
            optimizer: after its step, so that its state is there to be counted.
        """
        if not self._done or self._blind:
            return None, "unknown"
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device)), "allocator"
        if self._device.type != "cpu":
            return None, "unknown"
        held = sum(_storages([*self._model.parameters(), *self._model.buffers()]).values())
        return held + self._gradients + state_bytes(optimizer) + self._live.peak, "tracked"

    def process_bytes(self) -> int | None:
        """What the driver says that this process holds on the GPU (context, caches, code), if it says."""
        if self._device.type != "cuda":
            return None
        uuid = str(torch.cuda.get_device_properties(self._device).uuid)
        return process_bytes(uuid, os.getpid())

    @contextmanager
    def _without_hooks(self, message: str) -> Iterator[None]:
        # torch.func refuses to run under hooks and calls `disable_saved_tensors_hooks` to find out. The
        # user's step must not fail because it is measured: step aside, and say that nothing was measured.
        assert self._hooks is not None
        assert self._stand_aside is not None
        self._blind = True
        self._hooks.__exit__()
        try:
            with self._stand_aside(message):
                yield
        finally:
            self._hooks.__enter__()


class _Kept:
    """A tensor as autograd keeps it; when autograd lets go, its bytes go too."""

    __slots__ = ("__weakref__", "_key", "_live", "tensor")

    def __init__(self, tensor: torch.Tensor, live: _Live, key: int | None) -> None:
        self.tensor: torch.Tensor | None = tensor
        self._live = live
        self._key = key

    def __del__(self) -> None:
        # torch.compile, when it looks into the hooks, makes objects that were never initialised.
        key = getattr(self, "_key", None)
        if key is not None:
            self._live.release(key)


class _Live:
    """Bytes of the storages that autograd holds now, and the most it held."""

    def __init__(self, owned: frozenset[int]) -> None:
        self._owned = owned
        self._holders: dict[int, tuple[int, int]] = {}
        self._kept: weakref.WeakSet[_Kept] = weakref.WeakSet()
        self._bytes = 0
        self.peak = 0

    def keep(self, tensor: torch.Tensor) -> _Kept:
        key, size = _storage(tensor)
        if key in self._owned or size == 0:
            return self._remembered(_Kept(tensor, self, None))
        count, size = self._holders.get(key, (0, size))
        if count == 0:
            self._bytes += size
            self.peak = max(self.peak, self._bytes)
        self._holders[key] = (count + 1, size)
        return self._remembered(_Kept(tensor, self, key))

    def let_go(self) -> None:
        """Drops the tensors of a graph that nobody will go back through."""
        for kept in list(self._kept):
            kept.tensor = None

    def _remembered(self, kept: _Kept) -> _Kept:
        self._kept.add(kept)
        return kept

    def release(self, key: int) -> None:
        count, size = self._holders.pop(key)
        if count > 1:
            self._holders[key] = (count - 1, size)
        else:
            self._bytes -= size


def _storage(tensor: torch.Tensor) -> tuple[int, int]:
    """Identity and bytes of the memory under a tensor (views share one)."""
    if tensor.layout is torch.sparse_coo:
        parts = (tensor._indices(), tensor._values())
        return parts[1].data_ptr(), sum(part.untyped_storage().nbytes() for part in parts)
    try:
        storage = tensor.untyped_storage()
        return storage.data_ptr(), storage.nbytes()
    except (NotImplementedError, RuntimeError):
        # Compressed sparse tensors and wrappers have no storage of their own.
        return id(tensor), tensor.numel() * tensor.element_size()


def _storages(tensors: Iterable[torch.Tensor]) -> dict[int, int]:
    # Of a sharded parameter the shard that is here.
    return dict(_storage(inner) for tensor in tensors for inner in plain(tensor))


def _tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
