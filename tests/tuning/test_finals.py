from __future__ import annotations

from autoopt.records import BASELINE, Outcome, TrialResult, TrialSpec
from autoopt.tuning.finals import finalists, fresh_trials
from autoopt.tuning.planner import Planner
from autoopt.tuning.race import FRESH_SEEDS
from tests.tuning.simulated import Machine, Surface

STEPS = 1000
SURFACES = {name: Surface(0.3, -3) for name in ("adamw", "sgd", "adan", "lion")}


def planner(*trials: tuple[str, float, float | None], steps: int = STEPS, seed: int = 0) -> Planner:
    """After trials of (optimizer, learning rate, loss; None: it diverged)."""
    made = Machine(SURFACES, seconds=300.0, steps=STEPS).planner()
    tell(made, *trials, steps=steps, seed=seed)
    return made


def tell(made: Planner, *trials: tuple[str, float, float | None], steps: int = STEPS, seed: int = 0) -> None:
    for name, lr, loss in trials:
        hyper = {} if name == BASELINE else {"lr": lr, "weight_decay": 0.01}
        spec = TrialSpec(
            id=len(made.results) + 1,
            stage="race 1",
            optimizer=name,
            hyper=hyper,
            steps=steps,
            seed=seed,
        )
        outcome = Outcome.COMPLETED if loss is not None else Outcome.DIVERGED
        made.tell(TrialResult(spec=spec, outcome=outcome, loss=loss, steps_done=steps, step_seconds=0.01))


def named(made: Planner) -> list[tuple[str, float]]:
    return [(o.optimizer, o.hyper["lr"]) for o in finalists(made.view, made.race, STEPS)]


def test_the_best_three_that_were_run_in_full_are_finalists_two_of_one_optimizer_at_most() -> None:
    made = planner(
        ("adan", 1e-3, 0.30),
        ("adan", 2e-3, 0.31),
        ("adan", 5e-3, 0.32),
        ("sgd", 1e-3, 0.35),
        ("lion", 1e-3, 0.9),
    )
    found = named(made)
    assert found[:2] == [("adan", 1e-3), ("adan", 2e-3)] or set(found[:2]) <= {("adan", 1e-3), ("adan", 2e-3)}
    assert len(found) == 3
    assert [name for name, _ in found].count("adan") == 2
    assert ("sgd", 1e-3) in found


def test_what_ran_shorter_diverged_or_was_dropped_is_no_finalist() -> None:
    made = planner(("adan", 1e-3, 0.30), ("sgd", 1e-3, 0.35), ("lion", 1e-3, 0.4), ("adamw", 1e-3, None))
    tell(made, ("adan", 3e-3, 0.1), steps=STEPS // 2)
    made.arms["lion"].dropped = "over the limit"
    assert set(named(made)) == {("adan", 1e-3), ("sgd", 1e-3)}


def test_fresh_seeds_go_round_so_that_pairs_are_complete_and_none_twice() -> None:
    made = planner(("adan", 1e-3, 0.30), ("sgd", 1e-3, 0.31), (BASELINE, 0.0, 0.32))
    order = [(o.optimizer, seed - FRESH_SEEDS) for o, seed in fresh_trials(made.view, made.race, STEPS)]
    assert order[0] == ("adan", 0), "the likeliest first"
    assert (BASELINE, 0) not in order, "it would meet nobody before the first has that seed"
    tell(made, ("adan", 1e-3, 0.3), seed=FRESH_SEEDS)
    order = [(o.optimizer, seed - FRESH_SEEDS) for o, seed in fresh_trials(made.view, made.race, STEPS)]
    assert order[0] == (BASELINE, 0)
    assert ("adan", 0) not in order
    assert order.index(("sgd", 0)) < order.index(("adan", 1))
    assert len(order) == len(set(order))


def test_without_a_finalist_nothing_is_confirmed() -> None:
    made = planner(("adan", 1e-3, 0.30), steps=STEPS // 2)
    assert list(fresh_trials(made.view, made.race, STEPS)) == []
