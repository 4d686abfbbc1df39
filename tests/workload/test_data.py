from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from autoopt.workload.data import clone, convert, describe, digest, move, nbytes, samples

Pair = namedtuple("Pair", "x y")
X, Y = torch.arange(6.0).reshape(2, 3), torch.tensor([0, 1])


@dataclass(frozen=True)
class Batch:
    x: torch.Tensor
    more: dict[str, Any] = field(default_factory=dict)
    kept: str = field(init=False, default="id")


@pytest.mark.parametrize(
    "batch",
    [
        X,
        (X, Y),
        [X, {"y": Y}],
        Pair(X, Y),
        OrderedDict(x=X, y=Y),
        defaultdict(list, x=X),
        UserDict({"x": X}),
        Batch(X, {"y": Y, "name": "a"}),
        {"x": X, "ids": ["a", "b"], "n": 3, "none": None},
        pack_sequence([X]),
    ],
)
def test_moving_keeps_the_shape_and_makes_new_containers(batch):
    moved = move(batch, torch.device("cpu"))
    assert type(moved) is type(batch)
    assert digest(moved) == digest(batch)
    assert describe(moved) == describe(batch)
    if isinstance(batch, dict | UserDict):
        moved.popitem()
        assert len(moved) == len(batch) - 1


def test_every_tensor_is_moved():
    batch = Batch(X, {"list": [Y, (Y,)]})
    seen = []
    convert(batch, lambda value: seen.append(value) or value.to("meta"))
    assert len(seen) == 3
    moved = move(batch, torch.device("meta"))
    assert moved.x.device.type == moved.more["list"][1][0].device.type == "meta"
    assert batch.x.device.type == "cpu"


def test_clones_share_no_memory():
    copied = clone({"x": [X]})
    copied["x"][0].zero_()
    assert X.sum() == 15


def test_samples_and_bytes():
    assert samples({"name": "a", "x": X}) == 2
    assert samples(torch.tensor(1.0)) == 1
    assert samples(["text"]) is None
    assert nbytes((X, Y, np.zeros(4))) == 24 + 16 + 32


def test_description():
    assert describe(Batch(X)) == "Batch(x: float32[2, 3], more: dict(), kept: str)"
    assert describe({"x": X, "y": [Y] * 9}).endswith("int64[2], ...))")


@pytest.mark.parametrize(
    "other",
    [X + 1e-6, X.double(), X.reshape(3, 2), X.to(torch.bfloat16), (X,), torch.zeros(0), X.to_sparse()],
)
def test_digests_tell_batches_apart(other):
    differs = digest(other) != digest(X)
    assert differs or (isinstance(other, tuple))


def test_digest_of_large_and_odd_values():
    big = torch.zeros(3_000_000)
    assert digest(big) == digest(big.clone())
    assert digest(big) != digest(big + 1)
    assert digest(torch.tensor(True)) != digest(torch.tensor(False))
    assert digest("a") != digest("b")
    assert digest(np.ones(2)) != digest(np.zeros(2))
    assert digest(torch.ones(4)[::2]) == digest(torch.ones(2))
