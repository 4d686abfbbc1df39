from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoopt.records import TrialResult, TrialSpec
from autoopt.trials.pool import Pool
from autoopt.trials.runner import Runner
from autoopt.trials.testing import FAKE_ENGINE
from tests.polling import looks

MakePool = Callable[..., Pool]


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[MakePool]:
    """A factory of pools over the fake engine, closed after the test."""
    pools: list[Pool] = []

    def make(target: str = "fake", **options: object) -> Pool:
        given: dict[str, object] = {"log_dir": tmp_path, "engine": FAKE_ENGINE, "threads": 1, **options}
        pools.append(Pool(target, **given))  # type: ignore[arg-type]
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Polls for a condition; fails when it does not come true."""
    for _ in looks(seconds):
        if condition():
            return
    raise AssertionError("it did not come true")


def slot_of(runner: Runner) -> int:
    """An idle slot, waited for."""
    until(lambda: runner.idle() or runner.wait(0.05))
    return runner.idle()[0]


def result_of(runner: Runner, spec: TrialSpec) -> TrialResult:
    """Runs one trial to its end."""
    runner.submit(slot_of(runner), spec)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for item in runner.wait(0.2):
            if isinstance(item, TrialResult):
                return item
    raise AssertionError("no result")
