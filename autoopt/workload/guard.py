"""The user's objects come back as they were: model, loader and every global generator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autoopt.workload import frozen
from autoopt.workload.attributes import Attributes
from autoopt.workload.seeding import RandomSource, RngState, get_state, parts_of, set_state, sources_of
from autoopt.workload.state import is_placed


class Guard:
    """Remembers the random state now; `watch_model` and `watch_loader` add to it; `restore` puts all back."""

    def __init__(self) -> None:
        self._rng = RngState()
        self._sources: dict[int, tuple[RandomSource, Any]] = {}
        self._epochs: list[tuple[Any, Any]] = []
        self._models: list[_Model] = []
        self._attributes: list[Attributes] = []

    def watch_model(self, model: nn.Module) -> None:
        """Remembers weights, buffers, gradients, `requires_grad`, modes and hooks of `model`."""
        self._models.append(_Model(model))

    def watch_attributes(self, attributes: Attributes) -> None:
        """Puts them back too."""
        self._attributes.append(attributes)

    def watch_loader(self, loader: Any) -> None:
        """Remembers the generators and the epoch that a loader and its samplers keep."""
        for source in sources_of(loader):
            self._sources.setdefault(id(source), (source, get_state(source)))
        for part in parts_of(loader):
            if callable(getattr(part, "set_epoch", None)) and "epoch" in getattr(part, "__dict__", {}):
                self._epochs.append((part, part.epoch))

    def restore(self) -> None:
        """Puts everything back."""
        for model in self._models:
            model.restore()
        for attributes in self._attributes:
            attributes.restore()
        for source, state in self._sources.values():
            set_state(source, state)
        for part, epoch in self._epochs:
            part.epoch = epoch
        self._rng.restore()


class _Model:
    """A model's tensors (the very objects, with copies of their values) and modes."""

    def __init__(self, model: nn.Module) -> None:
        self._modes = [(module, module.training) for module in model.modules()]
        # A frozen base may be most of what the memory holds: it is not copied, and trials look at its digest.
        left = {id(t) for _, t in frozen.frozen(model) if t.grad is None} if _is_large(model) else set()
        self._tensors = [
            _Placed(tensor) if id(tensor) in left or tensor.is_meta else _Kept(tensor)
            for tensor in (*model.parameters(), *model.buffers())
        ]
        self._hooks = [
            (getattr(module, name), dict(getattr(module, name)))
            for module in model.modules()
            for name in vars(module)
            if name.endswith("_hooks") and isinstance(getattr(module, name), dict)
        ]

    def restore(self) -> None:
        with torch.no_grad():
            for kept in self._tensors:
                kept.restore()
        for module, training in self._modes:
            module.training = training
        for live, before in self._hooks:
            live.clear()
            live.update(before)


def _is_large(model: nn.Module) -> bool:
    return is_placed(model) or frozen.is_base(model)


class _Placed:
    """A tensor whose values nothing here changes: only its place and whether it is trained are remembered."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._requires_grad = tensor, tensor.requires_grad
        self._data = tensor.data if type(tensor.data) is Tensor and not tensor.is_meta else None

    def restore(self) -> None:
        if self._data is not None and self._tensor.device != self._data.device:
            self._tensor.data = self._data
        self._tensor.requires_grad_(self._requires_grad)


class _Kept:
    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._data = tensor.data
        self._value = tensor.detach().to("cpu", copy=True)
        self._requires_grad = tensor.requires_grad
        self._grad = tensor.grad
        self._grad_value = None if tensor.grad is None else tensor.grad.detach().clone()

    def restore(self) -> None:
        tensor = self._tensor
        if tensor.data_ptr() != self._data.data_ptr() or tensor.device != self._data.device:
            tensor.data = self._data  # back on its own device, in its own memory
        tensor.copy_(self._value)
        tensor.requires_grad_(self._requires_grad)
        if self._grad is not None and self._grad_value is not None:
            self._grad.copy_(self._grad_value)
        tensor.grad = self._grad
