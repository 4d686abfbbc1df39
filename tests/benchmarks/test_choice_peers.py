from __future__ import annotations

import pytest

from autoopt.records import BASELINE
from benchmarks.choice import peers
from benchmarks.choice.regret import regret
from benchmarks.choice.world import Choice, World
from tests.benchmarks.choice_tables import EASY, TRAP, bowl, rates, surface

TUNERS = [
    peers.adamw_grid,
    peers.adamw_tpe,
    peers.random_full,
    peers.optuna_hyperband,
    peers.staged,
    peers.short_winner,
]


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_peer_is_deterministic_and_better_than_the_default_with_time(tuner: peers.Tuner) -> None:
    toy = surface(EASY, noise=(0.02, -0.02))
    choice = tuner(World(toy, 0), 15 * toy.full_run, 2)
    assert choice == tuner(World(toy, 0), 15 * toy.full_run, 2)
    assert regret(toy, choice)[0] < regret(toy, peers.DEFAULT)[0]


@pytest.mark.parametrize("tuner", [peers.adamw_grid, peers.adamw_tpe, peers.random_full])
def test_who_needs_full_runs_has_the_default_when_none_fits(tuner: peers.Tuner) -> None:
    toy = surface(EASY)
    assert tuner(World(toy, 0), 0.3 * toy.full_run, 2) == Choice(BASELINE, 1e-3)


def test_adamw_alone_tries_as_many_rates_as_fit_and_takes_the_best() -> None:
    toy = surface({"adamw": bowl(0.3, 0.5), "sgd": bowl(0.1)})
    assert peers.adamw_grid(World(toy, 0), toy.full_run, 2).rate == pytest.approx(3e-3)  # and a lower one
    assert peers.adamw_grid(World(toy, 0), 2 * toy.full_run, 2).rate == pytest.approx(9.487e-3)


def test_the_winner_of_short_trials_diverges_where_the_best_rate_falls_with_the_length() -> None:
    toy = surface(TRAP)
    choice = peers.short_winner(World(toy, 0), 15 * toy.full_run, 2)
    assert choice.optimizer == "adamw"
    far, diverged = regret(toy, choice)
    assert diverged
    assert far > 2
    assert not regret(toy, peers.staged(World(toy, 0), 15 * toy.full_run, 2))[1]


def test_what_is_learned_from_other_workloads_is_best_there_and_complements_itself() -> None:
    first = surface({"adamw": bowl(0.3), "sgd": bowl(0.1, -0.5)}, name="first")
    second = surface({"adamw": bowl(0.1, 0.5), "sgd": bowl(0.5, -0.5)}, name="second")
    learned = peers.learned([first, second])
    best = [min(learned, key=lambda c: regret(s, c)[0]) for s in (first, second)]
    assert [c.optimizer for c in best] == ["sgd", "adamw"]
    assert [regret(s, c)[0] for s, c in zip((first, second), best, strict=True)] == pytest.approx([0, 0])
    assert peers.learned([first])[0] == Choice("sgd", rates("sgd")[2])


def test_a_portfolio_takes_the_best_that_it_had_time_for_and_its_first_without_time() -> None:
    toy = surface(EASY)
    name, rate, _ = toy.best()
    good, bad = Choice(name, rate), Choice("sgd", rates("sgd")[0])
    tuner = peers.portfolio([bad, good])
    assert tuner(World(toy, 0), 0.5 * toy.full_run, 2) == bad
    assert tuner(World(toy, 0), 1.0 * toy.full_run, 1) == bad
    assert tuner(World(toy, 0), 1.0 * toy.full_run, 2) == good
    assert peers.fixed(bad)(World(toy, 0), 9.0, 2) == bad


def test_pruned_trials_cost_less_so_that_more_are_tried() -> None:
    toy = surface(EASY)
    counted: dict[bool, int] = {}
    for prune in (False, True):
        world = World(toy, 0)
        calls = []
        run = world.run
        world.run = lambda *a, run=run, calls=calls: calls.append(a) or run(*a)  # type: ignore[method-assign]
        pruner = peers.optuna.pruners.SuccessiveHalvingPruner() if prune else peers.optuna.pruners.NopPruner()
        peers._tpe(world, 15 * toy.full_run, 2, toy.optimizers, pruner)
        counted[prune] = len(calls)
    assert counted[True] > counted[False] >= 30
