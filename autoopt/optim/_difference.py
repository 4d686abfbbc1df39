"""What a second evaluation of a loss must not move or see changed: random numbers, buffers, precision."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


class RandomState:
    """The state of every random generator that a loss may draw from: torch's, numpy's and Python's."""

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self._python = random.getstate()
        self._torch = torch.get_rng_state()
        self._devices = {
            d: torch.get_device_module(d).get_rng_state(d)
            for d in set(devices)
            if d.type not in ("cpu", "meta")
        }
        numpy = sys.modules.get("numpy")
        self._numpy: Any = numpy.random.get_state() if numpy is not None else None

    def restore(self) -> None:
        """Puts all of them back."""
        random.setstate(self._python)
        torch.set_rng_state(self._torch)
        for device, state in self._devices.items():
            torch.get_device_module(device).set_rng_state(state, device)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)


class Buffers:
    """Copies of a module's buffers (running statistics, counters)."""

    def __init__(self, module: nn.Module | None) -> None:
        self._copies: list[tuple[Tensor, Tensor]] = []
        if module is not None:
            self._copies = [(b, b.detach().clone()) for b in module.buffers()]

    def restore(self) -> None:
        """Writes the copies back in place."""
        with torch.no_grad():
            for buffer, copy in self._copies:
                buffer.copy_(copy)


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
        if module is not None:
            # The closure may enter autocast by itself: its model then runs with it switched off again.
            stack.callback(module.register_forward_pre_hook(before, prepend=True).remove)
            stack.callback(module.register_forward_hook(after, always_call=True).remove)
        yield
