"""How places are shared out: on machines that are only described."""

from __future__ import annotations

import pytest

from autoopt.daemon.shares import Holder, add, fair, forget_gone, room, take, total
from autoopt.trials.cluster.messages import Node
from autoopt.trials.cluster.places import Share

CORE = Share(1.0, 0.0)


def node(name: str, cpus: float = 1, gpus: float = 0, kind: str = "x", free: float | None = None) -> Node:
    free_gpus = None if free is None else gpus
    return Node(id=name, address=name, cpus=cpus, gpus=gpus, device=kind, free_cpus=free, free_gpus=free_gpus)


@pytest.mark.parametrize(
    ("places", "most", "parts"),
    [
        (4, [None], [4]),
        (5, [None, None], [3, 2]),
        (8, [None, 1, None], [4, 1, 3]),
        (2, [None, None, None], [1, 1, 0]),
        (3, [1, 1], [1, 1]),
        (0, [None], [0]),
    ],
)
def test_even_parts_and_to_none_more_than_it_wants(
    places: int, most: list[int | None], parts: list[int]
) -> None:
    assert fair(places, most) == parts


def test_places_go_to_machines_in_turn_and_never_twice() -> None:
    nodes = [node("a", 2), node("b", 2)]
    first, second = Holder("x", CORE), Holder("x", CORE)
    assert add(first, 2, nodes, []) == 2
    assert first.allotted == {"a": 1, "b": 1}
    assert add(second, 3, nodes, [first]) == 2
    assert second.allotted == {"a": 1, "b": 1}
    assert add(first, 1, nodes, [first, second]) == 0


def test_what_has_not_been_given_back_yet_is_not_given_away() -> None:
    nodes = [node("a", 2)]
    first, second = Holder("x", CORE, allotted={"a": 2}, held={"a": 2}, loaded={"a": 2}), Holder("x", CORE)
    take(first, 1)
    assert first.places == 1
    assert add(second, 1, nodes, [first]) == 0
    first.held = {"a": 1}
    assert add(second, 1, nodes, [first]) == 1


def test_a_place_whose_worker_has_loaded_is_the_last_to_go() -> None:
    holder = Holder("x", CORE, allotted={"a": 2, "b": 1}, loaded={"a": 2})
    take(holder, 1)
    assert holder.allotted == {"a": 2}
    take(holder, 5)
    assert holder.allotted == {}


def test_what_others_of_the_cluster_have_is_not_ours() -> None:
    ours = Holder("x", CORE, allotted={"a": 1}, held={"a": 1}, loaded={"a": 1})
    assert room(node("a", 4, free=1), CORE, [ours]) == 1  # two cores are somebody else's
    assert room(node("a", 4, free=1), CORE, [ours], ours=False) == 2
    assert room(node("a", 4), CORE, [ours]) == 3  # not known: Ray itself keeps a trial waiting


def test_a_worker_that_starts_makes_no_jobs_part_smaller_and_gives_nothing_away() -> None:
    starting = Holder("x", CORE, allotted={"a": 2}, held={"a": 2})
    taken = node("a", 4, free=2)
    assert room(taken, CORE, [starting], ours=False) == 4
    assert room(taken, CORE, [starting]) == 0  # Ray may have given these two cores to somebody else


def test_jobs_with_trials_of_unlike_sizes_share_a_machine() -> None:
    gpu, cpu = Holder("h", Share(1, 0.5), allotted={"a": 2}), Share(1, 0)
    assert room(node("a", 8, 1, "h"), cpu, [gpu]) == 6
    assert room(node("a", 8, 1, "h"), Share(1, 0.5), [gpu]) == 0


def test_a_kind_is_not_mixed_with_another() -> None:
    nodes = [node("a", 2, kind="x"), node("b", 4, kind="y")]
    holder = Holder("x", CORE)
    assert add(holder, 5, nodes, []) == 2
    assert (total(nodes, "x", CORE), total(nodes, "y", CORE)) == (2, 4)


def test_machines_that_are_gone_have_no_places() -> None:
    holder = Holder("x", CORE, allotted={"a": 1, "b": 2})
    forget_gone(holder, {"b": node("b")})
    assert holder.allotted == {"b": 2}
