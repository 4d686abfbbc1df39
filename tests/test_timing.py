"""The stopwatch against time that is spent on purpose."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from autoopt.timing import PARTS, Stopwatch, compiled_seconds

CPU = torch.device("cpu")


def spend(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def test_each_part_gets_what_was_spent_since_the_last_mark() -> None:
    watch = Stopwatch(CPU)
    watch.begin(0)
    for part, seconds in (("data", 0.002), ("forward", 0.004), ("backward", 0.001), ("forward", 0.004)):
        spend(seconds)
        watch.mark(part)
    (lap,) = watch.laps()
    assert set(lap) <= set(PARTS)
    assert lap["data"] >= 0.002
    assert lap["forward"] >= 0.008, "the parts of accumulated batches add up"
    assert lap["forward"] > lap["backward"] >= 0.001


def test_steps_that_warm_up_leave_no_lap() -> None:
    watch = Stopwatch(CPU, first=2)
    for step in range(5):
        watch.begin(step)
        watch.mark("data")
    assert len(watch.laps()) == 3
    assert not watch.on_device


def test_what_is_between_two_steps_counts_to_neither() -> None:
    watch = Stopwatch(CPU)
    for step in range(2):
        watch.begin(step)
        watch.mark("data")
        spend(0.01)
    assert all(lap["data"] < 0.01 for lap in watch.laps())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_events_agree_with_a_clock_that_waits() -> None:
    device = torch.device("cuda")
    a = torch.randn(4096, 4096, device=device)
    for _ in range(3):
        a @ a
    watch = Stopwatch(device, period=3)
    spent = []
    for step in range(6):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        watch.begin(step)
        for _ in range(5):
            a @ a
        watch.mark("forward")
        torch.cuda.synchronize()
        spent.append(time.perf_counter() - begin)
    laps = [lap["forward"] for lap in watch.laps()]
    assert len(laps) == 6
    assert sum(laps) == pytest.approx(sum(spent), rel=0.2)


def test_compiling_is_counted() -> None:
    before = compiled_seconds()
    model = torch.compile(nn.Linear(3, 3), backend="eager")
    model(torch.zeros(2, 3))
    after = compiled_seconds()
    assert before is not None
    assert after is not None
    assert after > before
    model(torch.zeros(2, 3))
    assert compiled_seconds() == after
