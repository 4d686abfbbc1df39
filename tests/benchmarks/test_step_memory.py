from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from multiprocessing.pool import Pool
from typing import Any

import pytest
import torch

from autoopt.optim.adan import Adan
from benchmarks.step_memory import SHAPES, extra_bytes, markdown

SIZE = 4_000_000
linux = pytest.mark.skipif(sys.platform != "linux", reason="the peak is set back through Linux's /proc")


class Greedy(torch.optim.SGD):
    """Its step has a temporary as large as all parameters."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.clone()
        return super().step(closure)


def measured(kind: type[torch.optim.Optimizer]) -> int:
    torch.set_num_threads(1)
    return extra_bytes(lambda params: kind(params, lr=1e-3), [(SIZE,)], 2)  # type: ignore[call-arg]


@pytest.fixture(scope="module")
def process() -> Iterator[Pool]:
    """A process of its own, with a peak of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


@linux
def test_a_temporary_counts_with_all_its_bytes(process: Pool) -> None:
    assert 3.9 * SIZE < process.apply(measured, (Greedy,)) < 5 * SIZE  # resident memory is counted in pages


@linux
def test_blocks_count_as_little_as_they_are(process: Pool) -> None:
    assert process.apply(measured, (Adan,)) < SIZE


def test_the_table_compares_with_the_parameters_and_with_a_block() -> None:
    *_, row = markdown({"Adan": 2 * 2**20}, 2**20).splitlines()
    assert row == "| Adan | 2.0 | 50.00% | 1.0 |"


def test_the_shapes_are_100_million_parameters() -> None:
    assert sum(torch.Size(shape).numel() for shape in SHAPES) == pytest.approx(1e8, rel=0.01)
