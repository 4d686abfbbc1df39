"""Looking at a cluster that comes and goes, through a bridge that is played."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autoopt.daemon import lookout as module
from autoopt.daemon.lookout import Lookout
from autoopt.errors import ClusterGone, WorkerError
from autoopt.trials.cluster.messages import Node
from tests.daemon.daemons import until

NODE = Node(id="a", address="10.0.0.1", cpus=4, gpus=0, device="x")


class Bridges:
    """What each attempt to connect gets: an error, or a bridge that tells what is put into it."""

    def __init__(self) -> None:
        self.refuses: Exception | None = None
        self.tells: list[list[Node] | Exception] = []
        self.attempts = self.closed = 0
        self.woken = threading.Event()

    def __call__(self, *_: Any) -> Any:
        self.attempts += 1
        if self.refuses is not None:
            raise self.refuses
        return self

    def changed(self, seconds: float) -> list[Node] | None:
        if not self.tells:
            time.sleep(min(seconds, 0.01))
            return None
        told = self.tells.pop(0)
        if isinstance(told, Exception):
            raise told
        return told

    def close(self, seconds: float) -> None:
        self.closed += 1


@pytest.fixture
def bridges(monkeypatch: pytest.MonkeyPatch) -> Bridges:
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.02)
    return Bridges()


Look = Callable[[], Lookout]


@pytest.fixture
def look(bridges: Bridges, tmp_path: Path) -> Iterator[Look]:
    made: list[Lookout] = []

    def go() -> Lookout:
        made.append(Lookout("head:1", tmp_path / "cluster.log", bridges.woken.set, bridges))
        made[-1].start()
        return made[-1]

    yield go
    for one in made:
        one.stop()


def test_a_cluster_that_is_not_there_is_tried_again_until_it_is(bridges: Bridges, look: Look) -> None:
    bridges.refuses = WorkerError("no such cluster")
    seen = look()
    until(lambda: bridges.attempts >= 3)
    assert (seen.sight.there, seen.sight.trouble) == (False, "no such cluster")
    bridges.tells, bridges.refuses = [[NODE]], None
    until(lambda: seen.sight.there)
    assert (seen.sight.nodes, seen.sight.trouble) == ((NODE,), "")
    assert bridges.woken.is_set()


def test_one_that_goes_is_said_and_found_again(bridges: Bridges, look: Look) -> None:
    bridges.tells = [[NODE], []]
    seen = look()
    until(lambda: seen.sight.there and seen.sight.nodes == ())
    bridges.refuses = WorkerError("still away")
    bridges.tells.append(ClusterGone("the connection has ended"))
    until(lambda: seen.sight.trouble == "still away")
    bridges.tells, bridges.refuses = [[NODE]], None
    until(lambda: seen.sight.nodes == (NODE,))


def test_whoever_doubts_it_has_it_reached_anew(bridges: Bridges, look: Look) -> None:
    bridges.tells = [[NODE]]
    seen = look()
    until(lambda: seen.sight.there)
    before = bridges.attempts
    seen.doubt()
    assert not seen.sight.there
    until(lambda: bridges.attempts > before)
    assert bridges.closed >= 1
    bridges.tells.append([NODE])
    until(lambda: seen.sight.there)


def test_the_end_is_soon_also_while_nobody_answers(bridges: Bridges, look: Look) -> None:
    seen = look()
    until(lambda: bridges.attempts)
    began = time.monotonic()
    seen.stop()
    assert time.monotonic() - began < 5
    assert bridges.closed == 1
