from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from autoopt.workload.seeding import RngState, derive, get_state, reseed, seed_everything, set_state


def _draw() -> list[float]:
    return [torch.rand(1).item(), float(np.random.rand()), random.random()]


def test_all_global_generators_are_seeded_and_put_back():
    seed_everything(derive(3))
    state = RngState()
    first = _draw()
    assert _draw() != first
    state.restore()
    assert _draw() == first
    seed_everything(derive(3))
    assert _draw() == first


@pytest.mark.parametrize(
    ("source", "draw"),
    [
        (torch.Generator(), lambda g: torch.rand(1, generator=g).item()),
        (np.random.default_rng(0), lambda g: g.random()),
        (np.random.Generator(np.random.MT19937(0)), lambda g: g.random()),
        (np.random.RandomState(0), lambda g: g.rand()),
        (random.Random(0), lambda g: g.random()),
    ],
)
def test_each_kind_of_generator(source, draw):
    reseed(source, 5)
    state = get_state(source)
    first = draw(source)
    assert draw(source) != first
    set_state(source, state)
    assert draw(source) == first
    reseed(source, 5)
    assert draw(source) == first


def test_derived_seeds_fit_numpy_and_differ():
    seeds = {derive(seed, what) for seed in range(50) for what in ("a", "b")}
    assert len(seeds) == 100
    assert max(seeds) < 2**32
