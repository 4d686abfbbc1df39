"""Shapes of common operations, remembered.

`FakeTensorMode` looks at every operation from all sides (constants, symbolic sizes, devices) before it asks for the shape
of the result, which takes most of a trace's time. The operations listed here need none of that: their arguments are fake
tensors of one device, and the shape of their result follows from the arguments' shapes alone. A network's layers ask the
same again and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, in_kernel_invocation_manager

_NAMES = """
abs add addcdiv addcmul addmm alias baddbmm bmm clamp clamp_min clone copy cos cumsum detach div eq erf exp expand fill
ge gelu gelu_backward gt isfinite le lerp log logical_and logical_not logical_or lt masked_fill maximum mean minimum mm
mul native_layer_norm native_layer_norm_backward ne neg permute pow reciprocal rsqrt rsub select sigmoid sigmoid_backward
sign silu silu_backward sin slice split split_with_sizes sqrt squeeze stack sub sum t tanh tanh_backward
threshold_backward transpose slice_backward as_strided new_zeros zeros_like ones_like empty_like unbind unsqueeze view
where zero cat linalg_vector_norm _log_softmax _log_softmax_backward_data _softmax _softmax_backward_data _unsafe_view
"""
_RESHAPING = frozenset({"squeeze", "t", "transpose", "unsqueeze", "detach"})
"""In place they change the tensor's own shape or history."""
_FOREACH = """
abs add addcdiv addcmul clamp_max clamp_min copy div lerp max maximum minimum mul neg norm pow reciprocal rsqrt sign sqrt
sub zero
"""


def _overloads(names: Sequence[str]) -> frozenset[Any]:
    packets = [getattr(torch.ops.aten, name, None) for name in names]
    return frozenset(
        getattr(packet, overload)
        for packet in packets
        if packet is not None
        for overload in packet.overloads()
        if "out" not in overload.split("_")
    )


QUICK = _overloads(
    [
        *_NAMES.split(),
        *(f"{name}_" for name in _NAMES.split() if name not in _RESHAPING),
        *(f"_foreach_{name}{end}" for name in _FOREACH.split() for end in ("", "_")),
    ]
)


@dataclass(frozen=True)
class _Made:
    """A tensor of a result: a new one, a view of an argument, or an argument itself."""

    source: int | None
    """Place of the argument that it is or looks at."""
    itself: bool
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype

    @classmethod
    def of(cls, made: Tensor, given: Sequence[Tensor]) -> _Made:
        storage = made.untyped_storage()._cdata
        source = next((i for i, t in enumerate(given) if t.untyped_storage()._cdata == storage), None)
        itself = source is not None and made is given[source]
        return cls(source, itself, tuple(made.shape), made.stride(), int(made.storage_offset()), made.dtype)

    def again(self, given: Sequence[Tensor], mode: FakeTensorMode) -> Tensor:
        """The same of other arguments of the same shapes: fake if it is one of them, else its meta tensor."""
        if self.source is None:
            return torch.empty_strided(self.size, self.stride, dtype=self.dtype, device="meta")
        if self.itself:
            return given[self.source]
        with in_kernel_invocation_manager(mode):
            return given[self.source].as_strided(self.size, self.stride, self.offset)


class Fakes(FakeTensorMode):  # type: ignore[no-untyped-call]
    """torch's mode, which stays one when a model copies its layers: a fake tensor's copy copies what it refers to."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Fakes:
        return self


class Kernels:
    """The operations of `QUICK` on fake tensors.

    Args:
        mode: whose tensors they are.
    """

    def __init__(self, mode: FakeTensorMode) -> None:
        self._mode = mode
        self._known: dict[Any, Any] = {}
        self._attributes: dict[torch.device, dict[str, Any]] = {}
        """Of a fresh fake tensor of a device."""

    def __call__(self, func: Any, args: Any, kwargs: dict[str, Any], given: Sequence[Any]) -> Any:
        """The result; a tensor that is changed in place is given back as it is.

        Args:
            func, args, kwargs: the call.
            given: the tensors among the arguments, in their order, at least one.

        Returns:
            The result, or NotImplemented where the general way has to be taken.
        """
        for tensor in given:
            if tensor.constant is not None or tensor.fake_mode is not self._mode or tensor.dtype.is_complex:
                return NotImplemented
        device = given[0].fake_device
        if "device" in kwargs:  # the kernels know of no other device than their arguments'
            if kwargs["device"] not in (None, device):
                return NotImplemented
            kwargs = {name: value for name, value in kwargs.items() if name != "device"}
        key = func, _key(args), _key(tuple(kwargs.items()))
        known = self._known.get(key, self)
        if known is not self:
            result = _each(known, lambda made: made.again(given, self._mode), _Made)
        else:
            with in_kernel_invocation_manager(self._mode):
                result = func(*args, **kwargs)
                self._known[key] = _each(result, lambda tensor: _Made.of(tensor, given), Tensor)
        return _each(result, lambda tensor: self._fake(tensor, device), Tensor)

    def like(self, tensor: Tensor) -> Tensor:
        """A fake tensor of the shape of a real strided one."""
        shape = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
        return self._fake(shape, tensor.device)

    def _fake(self, tensor: Tensor, device: torch.device) -> Tensor:
        """The fake tensor of a meta tensor: what torch's constructor makes, without checking it each time."""
        if isinstance(tensor, FakeTensor):
            return tensor
        if device not in self._attributes:
            made = FakeTensor(self._mode, tensor, device)
            self._attributes[device] = dict(vars(made))
            return made
        made = Tensor._make_subclass(
            FakeTensor, tensor, False, dispatch_device=True, device_for_backend_keys=device
        )
        made.__dict__.update(self._attributes[device])
        return made


def tensors(args: Any, kwargs: dict[str, Any]) -> list[Any]:
    """The tensors among the arguments of an operation, which come alone or in lists."""
    found = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            found += [item for item in value if isinstance(item, Tensor)]
    return found


def _each(value: Any, change: Any, kind: type) -> Any:
    """A result with its tensors exchanged: one, or a tuple or list of some."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, tuple | list):
        return type(value)([_each(item, change, kind) for item in value])
    return value


def _key(value: Any) -> Any:
    """What a result's shape depends on."""
    if isinstance(value, Tensor):
        return value.dtype, value.shape, value.stride(), value.storage_offset()
    if isinstance(value, tuple | list):
        return tuple([_key(item) for item in value])
    # 1, 1.0 and True are one key in a dictionary, and give results of different dtypes.
    return type(value), value
