"""Every source of randomness: seeding, capturing and giving back."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

RandomSource = torch.Generator | random.Random | np.random.Generator | np.random.RandomState


def derive(seed: int, *parts: object) -> int:
    """A 32-bit seed from `seed` and what it is for; unrelated for different parts.

    >>> derive(0, "build") != derive(0, "data", 0) != derive(0, "data", 1)
    True
    """
    text = ":".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")


def seed_everything(seed: int) -> None:
    """Seeds torch (all devices), numpy's global state and `random`. `seed` is below 2**32."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # the global state: it is what user code draws from
    random.seed(seed)


class RngState:
    """The state of every global generator (torch, CUDA, numpy, random), to be put back."""

    def __init__(self) -> None:
        self.torch = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
        self.numpy = np.random.get_state()
        self.random = random.getstate()

    def restore(self) -> None:
        """Puts the captured states back."""
        torch.set_rng_state(self.torch)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        np.random.set_state(self.numpy)
        random.setstate(self.random)


def parts_of(loader: Any) -> Iterator[Any]:
    """The loader and what it draws from: its samplers and its dataset, each once."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    sampler = getattr(loader, "sampler", None)
    inner = getattr(batch_sampler, "sampler", None)
    nested = (getattr(sampler, "inner", None), getattr(inner, "inner", None))
    seen: set[int] = set()
    for part in (loader, sampler, batch_sampler, inner, *nested, getattr(loader, "dataset", None)):
        if part is not None and id(part) not in seen:
            seen.add(id(part))
            yield part


def sources_of(loader: Any) -> list[RandomSource]:
    """The generators that the loader, its samplers and its dataset keep as attributes."""
    found: dict[int, RandomSource] = {}
    for part in parts_of(loader):
        for value in getattr(part, "__dict__", {}).values():
            if isinstance(value, RandomSource):
                found[id(value)] = value
    return list(found.values())


def reseed(source: RandomSource, seed: int) -> None:
    """Seeds one generator object, of torch, numpy or the standard library."""
    if isinstance(source, torch.Generator):
        source.manual_seed(seed)
    elif isinstance(source, np.random.Generator):
        source.bit_generator.state = type(source.bit_generator)(seed).state
    else:
        source.seed(seed)


def get_state(source: RandomSource) -> Any:
    """The state of one generator object."""
    if isinstance(source, torch.Generator):
        return source.get_state()
    if isinstance(source, np.random.Generator):
        return source.bit_generator.state
    return source.get_state() if isinstance(source, np.random.RandomState) else source.getstate()


def set_state(source: RandomSource, state: Any) -> None:
    """Puts back what `get_state` gave."""
    if isinstance(source, torch.Generator):
        source.set_state(state)
    elif isinstance(source, np.random.Generator):
        source.bit_generator.state = state
    elif isinstance(source, np.random.RandomState):
        source.set_state(state)
    else:
        source.setstate(state)


def reseed_loader(loader: Any, seed: int, epoch: int) -> None:
    """Makes the next pass over `loader` depend on (seed, epoch) alone."""
    value = derive(seed, "data", epoch)
    for part in parts_of(loader):
        set_epoch = getattr(part, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)
    for source in sources_of(loader):
        reseed(source, value)
    seed_everything(value)
