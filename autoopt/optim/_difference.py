"""What a second evaluation of a loss must not move or see changed: random numbers, buffers, precision."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn


class RandomState:
    """The state of every random generator that a loss may draw from: torch's, numpy's and Python's."""

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self._torch = TorchState(devices)
        self._python = random.getstate()
        # Not `numpy`, which loads its generators only when they are first used; asking them is slow.
        numpy = sys.modules.get("numpy.random")
        self._numpy: Any = numpy.get_state() if numpy is not None else None

    def restore(self) -> None:
        """Puts all of them back."""
        self._torch.restore()
        random.setstate(self._python)
        if self._numpy is not None:
            sys.modules["numpy.random"].set_state(self._numpy)


class TorchState:
    """The state of torch's generators, on the CPU and on some devices."""

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self._cpu = torch.get_rng_state()
        self._devices = {
            d: torch.get_device_module(d).get_rng_state(d)
            for d in set(devices)
            if d.type not in ("cpu", "meta")
        }

    def restore(self) -> None:
        """Puts them back."""
        torch.set_rng_state(self._cpu)
        for device, state in self._devices.items():
            torch.get_device_module(device).set_rng_state(state, device)


class Buffers:
    """Copies of a module's buffers (running statistics, counters)."""

    @torch.no_grad()
    def __init__(self, module: nn.Module | None) -> None:
        self._buffers = [] if module is None else list(module.buffers())
        self._copies = [b.clone() for b in self._buffers]

    @torch.no_grad()
    def restore(self) -> None:
        """Writes the copies back in place."""
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._copies)


@contextlib.contextmanager
def full_precision(module: nn.Module | None, devices: Iterable[torch.device]) -> Iterator[None]:
    """Switches autocast off, around this context and, where a module is given, inside its forward.

    A difference of two bfloat16 gradients is mostly rounding; and two evaluations within one autocast context
    share its cached casts, so that the second would not see the perturbed weights at all.
    """
    kinds = {d.type for d in devices}
    inner: list[contextlib.ExitStack] = []

    def off() -> contextlib.ExitStack:
        stack = contextlib.ExitStack()
        for kind in kinds:
            stack.enter_context(torch.autocast(kind, enabled=False))
        return stack

    def before(*_: Any) -> None:
        inner.append(off())

    def after(*_: Any) -> None:
        inner.pop().close()

    with contextlib.ExitStack() as stack:
        stack.enter_context(off())
        if module is not None and vars(module).get("_compiled_call_impl") is not None:
            stack.enter_context(_around_compiled(module, off))
        elif module is not None:
            # The closure may enter autocast by itself: its model then runs with it switched off again.
            # Accelerate replaces `forward` itself by one that enters autocast: there the parts switch it off.
            # So does torch.compile's wrapper, but the hooks of what it compiled would be compiled too.
            replaced = "forward" in vars(module) and type(module).__name__ != "OptimizedModule"
            for part in [module, *module.children()] if replaced else [module]:
                stack.callback(part.register_forward_pre_hook(before, prepend=True).remove)
                stack.callback(part.register_forward_hook(after, always_call=True).remove)
        yield


def is_compiled(module: nn.Module | None) -> bool:
    """Whether torch.compile has its hands in the module, or in a part of it."""
    return module is not None and any(
        type(part).__name__ == "OptimizedModule" or vars(part).get("_compiled_call_impl") is not None
        for part in module.modules()
    )


@contextlib.contextmanager
def _around_compiled(
    module: nn.Module, off: Callable[[], contextlib.AbstractContextManager[Any]]
) -> Iterator[None]:
    """`off` around the calls of a module that was compiled in place.

    Hooks would be compiled with it: once more, and not at all where they switch autocast.
    """
    kept = module._compiled_call_impl
    assert kept is not None

    def call(*args: Any, **kwargs: Any) -> Any:
        with off():
            return kept(*args, **kwargs)

    module._compiled_call_impl = call
    try:
        yield
    finally:
        module._compiled_call_impl = kept
