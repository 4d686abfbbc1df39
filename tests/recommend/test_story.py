"""How a run went, as its recommendation holds it: real runs of the planner over a measured table, in simulated time."""

from __future__ import annotations

import math

import pytest

from autoopt.recommend.effort import efforts, stage_of
from autoopt.recommend.rounds import rounds
from autoopt.records import BASELINE, Recommendation, TrialResult
from autoopt.report import recipe
from autoopt.tuning.leaders import IN_THE_RACE
from autoopt.tuning.planner import Planner
from benchmarks.choice.replay import tune
from benchmarks.choice.surface import surfaces
from benchmarks.choice.world import World

Run = tuple[Recommendation, Planner]


def ran(workload: str, full_runs: float) -> Run:
    """A whole run of so many full trainings' time."""
    surface = surfaces(names=[workload])[workload]
    rec, planner = tune(World(surface, 0), full_runs * surface.full_run)
    assert rec is not None
    return rec, planner


@pytest.fixture(scope="module")
def run() -> Run:
    return ran("regression", 16)


@pytest.fixture(scope="module")
def short() -> Run:
    return ran("regression", 0.8)


def test_effort_is_every_trial_once(run: Run) -> None:
    rec, planner = run
    assert sum(e.trials for e in rec.effort) == len(planner.results)
    assert sum(e.steps for e in rec.effort) == sum(r.steps_done for r in planner.results)
    total = sum(r.seconds["total"] for r in planner.results)
    assert sum(e.seconds for e in rec.effort) == pytest.approx(total, abs=0.01)
    assert {e.stage for e in rec.effort} == {"race", "confirm"}
    assert len({(e.stage, e.optimizer) for e in rec.effort}) == len(rec.effort)
    assert efforts([]) == []
    assert [stage_of(s) for s in ("race 12", "confirm", "screen")] == ["race", "confirm", "screen"]


def test_the_seconds_after_the_start_are_the_trials(run: Run) -> None:
    rec, planner = run
    spent = rec.spent
    assert spent is not None
    assert spent.workers == 2
    assert spent.train == pytest.approx(sum(r.seconds["train"] for r in planner.results), abs=0.01)
    assert 0.5 * spent.available < spent.train <= spent.available
    assert spent.startup_share == 0


def test_every_round_is_told_with_all_its_trials(run: Run) -> None:
    rec, planner = run
    assert sum(sum(r.trials.values()) for r in rec.race) == len(planner.results)
    numbers = [int(r.name.removeprefix("race ")) for r in rec.race if r.name != "confirm"]
    assert numbers == sorted(numbers)
    assert rec.race[-1].name == "confirm"
    assert BASELINE in rec.race[0].trials


def test_who_leaves_was_in_the_race_and_is_hardly_the_best(run: Run) -> None:
    rec, planner = run
    left_at_some_time = [(r, n) for r in rec.race for n in r.left]
    assert left_at_some_time
    for told, name in left_at_some_time:
        assert told.chances.get(name, 0.0) < IN_THE_RACE or planner.arms[name].dropped
        assert name not in rec.cut
    for told in rec.race:
        if told.chances:
            assert sum(told.chances.values()) == pytest.approx(1, abs=0.01)
    # After the last one, those who are left are those that the belief keeps.
    final = planner.view.chances([a.name for a in planner.race.racing() if a.tunable])
    assert rec.race[-1].chances == {n: round(c, 4) for n, c in final.items()}


def test_a_resumed_run_has_forgotten_what_was_believed_but_not_who_ran(run: Run) -> None:
    _, planner = run
    history, planner.rounds.history = planner.rounds.history, []
    try:
        told = rounds(planner)
    finally:
        planner.rounds.history = history
    assert [r.trials for r in told] == [r.trials for r in rounds(planner)]
    assert all(not r.chances and not r.left for r in told[:-1])
    assert told[-1].chances


def test_the_curve_of_the_chosen_optimizer_goes_through_its_expected_loss(run: Run) -> None:
    rec, _ = run
    first = rec.rates[0]
    assert first.optimizer == rec.recommendation.optimizer
    assert (first.of, first.steps, first.height_steps) == (
        "loss",
        rec.recommendation.steps,
        rec.expected.steps,
    )
    here = next(p for p in first.points if p.rate == rec.recommendation.hyper["lr"])
    assert rec.expected.loss is not None
    assert here.mean == pytest.approx(rec.expected.loss, rel=0.01)
    for curve in rec.rates:
        rates = [p.rate for p in curve.points]
        assert rates == sorted(set(rates))
        assert all(p.low <= p.mean <= p.high for p in curve.points)
    # The belief is surer where it was measured than at the ends.
    width = {p.rate: math.log(p.high / p.low) for p in first.points}
    assert width[here.rate] < max(width[first.points[0].rate], width[first.points[-1].rate])


def test_short_trials_say_what_a_longer_budget_buys(short: Run) -> None:
    rec, planner = short
    assert rec.more is not None
    assert rec.more.budget_seconds > planner.plan.budget_seconds
    order = ["low", "medium", "high"]
    assert order.index(rec.more.confidence) > order.index(planner.plan.confidence)
    assert planner.layout.longest <= rec.more.longest <= rec.recommendation.steps


def test_the_story_survives_the_yaml(run: Run, short: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    for rec, _ in (run, short):
        path = tmp_path_factory.mktemp("rec") / recipe.FILE_NAME
        recipe.save(rec, path)
        assert recipe.load(path) == rec


def test_cancelled_trials_count_by_what_they_took() -> None:
    results: list[TrialResult] = ran("regression", 1)[1].results
    silent = [r.model_copy(update={"seconds": {}}) for r in results]
    assert all(e.seconds == 0 for e in efforts(silent))
