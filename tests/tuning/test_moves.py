from __future__ import annotations

import math

import pytest

from autoopt.tuning.planner import Planner
from tests.tuning.test_finals import STEPS, planner, tell


def outwards(made: Planner, name: str) -> float | None:
    """log10 of the rate beyond the edge that is to be tried next."""
    moves = made.moves.possible(made.view, lambda _name, _steps: True)
    move = made.moves.outwards(name, [m for m in moves if m.option.optimizer == name])
    return None if move is None else math.log10(move.option.hyper["lr"])


@pytest.mark.parametrize(("best", "beyond"), [(1e-2, -1.5), (1e-3, -3.5)])
def test_where_the_best_rate_is_the_last_one_tried_the_next_lies_beyond(best: float, beyond: float) -> None:
    losses = {lr: 0.3 if lr == best else 0.6 for lr in (1e-3, 1e-2)}
    found = outwards(planner(*(("adan", lr, loss) for lr, loss in losses.items())), "adan")
    assert found == pytest.approx(beyond, abs=0.13)


def test_a_best_rate_between_others_needs_nothing_beyond() -> None:
    assert outwards(planner(("adan", 1e-3, 0.6), ("adan", 3e-3, 0.3), ("adan", 1e-2, 0.6)), "adan") is None


def test_one_rate_has_no_edge() -> None:
    assert outwards(planner(("adan", 1e-3, 0.3)), "adan") is None


def test_a_neighbour_that_diverged_is_an_edge_found() -> None:
    assert outwards(planner(("adan", 1e-3, 0.6), ("adan", 3e-3, 0.3), ("adan", 1e-2, None)), "adan") is None


def test_what_diverged_is_not_possible_again_and_what_was_run_only_on_further_seeds_in_full() -> None:
    made = planner(("adan", 1e-3, 0.3), ("adan", 1e-2, None))
    tell(made, ("sgd", 1e-3, 0.3), steps=STEPS // 2)
    possible = {
        (m.option.optimizer, m.option.hyper["lr"], m.steps)
        for m in made.moves.possible(made.view, lambda _name, _steps: True)
    }
    assert not any(name == "adan" and lr == 1e-2 for name, lr, _ in possible)
    assert ("adan", 1e-3, STEPS) in possible
    assert ("sgd", 1e-3, STEPS // 2) not in possible
    assert ("sgd", 1e-3, STEPS) in possible


def test_what_does_not_fit_is_not_possible() -> None:
    made = planner(("adan", 1e-3, 0.3))
    moves = made.moves.possible(made.view, lambda name, steps: name == "sgd" and steps < STEPS)
    assert moves
    assert all(m.option.optimizer == "sgd" and m.steps < STEPS for m in moves)
