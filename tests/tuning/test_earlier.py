"""Earlier runs in the belief: what they say, how loudly, and that without them nothing changes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autoopt.optim.spec import Range
from autoopt.records import BASELINE, Hyper, Outcome, TrialResult, TrialSpec
from autoopt.tuning.arm import Arm, Tried
from autoopt.tuning.belief import Likeness, Points, Prior, soft
from autoopt.tuning.earlier import MOST, Earlier, Past, earlier
from autoopt.tuning.field import Field
from autoopt.tuning.knowledge import NOTHING
from autoopt.tuning.option import Option
from autoopt.tuning.posterior import _SHARED, Posterior, Seen, _luck
from autoopt.tuning.score import Score

TOTAL = 800
NAMES = ("adamw", "sgd", "muon")
SCORE = Score(2.0)
PRIOR = Prior(NOTHING, dict.fromkeys([*NAMES, BASELINE], -3.0))


def result(
    name: str, lr: float | None, loss: float | None, steps: int = 400, seed: int = 0, number: int = 1
) -> TrialResult:
    spec = TrialSpec(
        id=number,
        stage="race 1",
        optimizer=name,
        hyper={} if lr is None else {"lr": lr},
        steps=steps,
        seed=seed,
    )
    outcome = Outcome.DIVERGED if loss is None else Outcome.COMPLETED
    return TrialResult(spec=spec, outcome=outcome, loss=loss)


def field(runs: tuple[Earlier, ...] = (), own: tuple[str, Hyper] | None = None) -> Field:
    arms = {BASELINE: Arm(BASELINE, {}, {})}
    arms |= {n: Arm(n, {"lr": 1e-3}, {"lr": Range(1e-6, 1.0)}) for n in NAMES}
    return Field(PRIOR, arms, TOTAL, own, runs)


def rates(name: str, ys: dict[float, float], total: int = TOTAL, *, same: bool) -> Earlier:
    """A run that tried one optimizer at some rates in full length."""
    trials = [Past(name, {"lr": lr}, total, 0, y) for lr, y in ys.items()]
    return Earlier(trials, {total: min(ys.values())}, total, same=same)


# --- from trials to an earlier run ----------------------------------------------------------------------------


def test_each_length_has_its_own_zero_and_what_diverged_is_kept() -> None:
    run = earlier(
        [
            result("adamw", 1e-3, 0.5),
            result("sgd", 1e-1, 1.0),
            result("sgd", 1e-1, 0.9, steps=800),
            result("muon", 1.0, None),
        ],
        SCORE,
        800,
    )
    assert run.zero == {400: SCORE.of_loss(0.5), 800: SCORE.of_loss(0.9)}
    assert [(p.optimizer, p.diverged) for p in run.trials] == [
        ("adamw", False),
        ("sgd", False),
        ("sgd", False),
        ("muon", True),
    ]


def test_the_users_own_of_that_run_is_told_as_what_it_was_or_sets_the_zero_alone() -> None:
    trials = [result(BASELINE, None, 0.4), result("adamw", 1e-2, 0.5)]
    named = earlier(trials, SCORE, 800, own=("adamw", {"lr": 3e-3}))
    assert [(p.optimizer, p.hyper) for p in named.trials] == [
        ("adamw", {"lr": 3e-3}),
        ("adamw", {"lr": 1e-2}),
    ]
    foreign = earlier(trials, SCORE, 800)
    assert [p.hyper for p in foreign.trials] == [{"lr": 1e-2}]
    assert foreign.zero == {400: SCORE.of_loss(0.4)}


def test_what_failed_says_nothing() -> None:
    crashed = result("adamw", 1e-3, 0.5).model_copy(update={"outcome": Outcome.CRASHED})
    assert earlier([crashed], SCORE, 800).trials == []


# --- in the belief --------------------------------------------------------------------------------------------


def test_without_earlier_runs_every_number_is_the_same_to_the_last_bit() -> None:
    plain, none, useless = field(), field(()), field((rates("unheard_of", {1e-3: 1.0}, same=True),))
    views = []
    for f in (plain, none, useless):
        f.arms["adamw"].tried[1] = Tried(1, "race 1", TOTAL, 0, {"lr": 1e-3}, 0.5)
        f.arms["sgd"].tried[2] = Tried(2, "race 1", 400, 0, {"lr": 1e-2}, 0.9)
        f.arms["muon"].tried[3] = Tried(3, "race 1", 400, 0, {"lr": 1e-2})
        views.append(f.view())
    assert len({v.means.tobytes() for v in views}) == 1
    assert len({v.draws.tobytes() for v in views}) == 1


def test_points_of_one_run_have_the_covariance_and_the_luck_of_before_there_were_groups() -> None:
    at = PRIOR.points("adamw", [-3.0, -2.0], 0.0) + PRIOR.points("sgd", [-1.0], 1.0)
    seeds = np.array([0, 0, 1], dtype=np.int64)
    together = (seeds[:, None] == seeds[None, :]) & (at.s[:, None] == at.s[None, :])
    assert _luck(at, seeds).tobytes() == (_SHARED * together + (1 - _SHARED) * np.eye(3)).tobytes()
    bare = Points(at.optimizer, at.family, at.u, at.s, at.others)
    alike = (Likeness(0.5),)
    assert PRIOR.covariance(bare, bare).tobytes() == PRIOR.covariance(at, at, alike=alike).tobytes()


def test_groups_are_correlated_by_their_likeness_and_have_a_zero_of_their_own() -> None:
    here = PRIOR.points("adamw", [-3.0], 0.0)
    there = Points(here.optimizer, here.family, here.u, here.s, here.others, np.ones(1, dtype=np.int64))
    offset = PRIOR.shape.offset**2
    own = float(PRIOR.covariance(here, here)[0, 0]) - offset
    for likeness, expected in (
        (Likeness(0.0), 0.0),
        (Likeness(0.6), 0.6 * own),
        (Likeness(0.6, one_zero=True), 0.6 * own + offset),
    ):
        assert float(PRIOR.covariance(here, there, alike=(likeness,))[0, 0]) == pytest.approx(expected)
        assert float(PRIOR.covariance(there, there, alike=(likeness,))[0, 0]) == pytest.approx(own + offset)


def test_the_covariance_of_several_runs_is_one() -> None:
    at = PRIOR.points("adamw", [-4.0, -3.0], 0.0) + PRIOR.points("sgd", [-2.0], 1.0)
    every = at
    for group in (1, 2, 3):
        every = every + Points(at.optimizer, at.family, at.u, at.s, at.others, np.full(3, group))
    alike = (Likeness(0.95, one_zero=True), Likeness(0.3), Likeness(0.85))
    assert np.linalg.eigvalsh(PRIOR.covariance(every, every, 2.0, alike)).min() > -1e-9


@pytest.mark.parametrize("same", [True, False])
def test_the_shape_over_rates_is_learned_more_of_the_same_workload_than_of_another(same: bool) -> None:
    curve = {1e-4: 0.9, 1e-3: 0.6, 1e-2: 0.3}

    def apart(f: Field) -> float:
        view = f.view()
        low, high = (Option("adamw", {"lr": lr}) for lr in (1e-4, 1e-2))
        return view.expected(low) - view.expected(high)

    gained = apart(field((rates("adamw", curve, same=same),))) - apart(field())
    assert gained > (0.15 if same else 0.02)
    if not same:
        assert gained < apart(field((rates("adamw", curve, same=True),))) - apart(field())


def test_losses_of_another_workload_are_not_compared_with_ours() -> None:
    """A thousand times the loss is no reason to doubt an optimizer: its level is its own."""
    views = []
    for level in (0.0, 7.0):
        curve = {1e-3: 0.3 + level, 1e-2: 0.6 + level}
        f = field((rates("adamw", curve, same=False),))
        f.arms["sgd"].tried[1] = Tried(1, "race 1", TOTAL, 0, {"lr": 1e-3}, 0.5)
        views.append(f.view().means)
    assert views[0] == pytest.approx(views[1])


def test_losses_of_the_same_workload_are() -> None:
    gaps = []
    for y in (0.1, 0.9):
        f = field((rates("adamw", {1e-3: y}, same=True),))
        f.arms["sgd"].tried[1] = Tried(1, "race 1", TOTAL, 0, {"lr": 1e-3}, 0.5)
        view = f.view()
        adamw, sgd = (Option(n, {"lr": 1e-3}) for n in ("adamw", "sgd"))
        gaps.append(view.expected(adamw) - view.expected(sgd))
    assert gaps[0] < 0 < gaps[1]


def test_lengths_are_shares_of_their_own_run_or_steps_of_the_same_workload() -> None:
    for same, doublings in ((False, 0.0), (True, math.log2(TOTAL / 200))):
        run = rates("adamw", {1e-3: 0.3}, total=200, same=same)
        seen = field((run,))._earlier.seen({200: 0.3})
        assert seen.at.s == pytest.approx([doublings])


def test_rates_of_a_network_of_another_size_count_from_what_is_usual_for_it() -> None:
    prior = Prior(NOTHING, {"adamw": -3.0}, parameters=1e6)
    assert prior.moved(1e6) == 0.0
    assert prior.moved(1e8) == pytest.approx(-0.3)
    assert prior.moved(1e4) == pytest.approx(0.3)


def test_of_too_many_trials_the_longest_are_taken() -> None:
    trials = [Past("adamw", {"lr": 1e-3 * 1.01**i}, 100 + i, i, 0.5) for i in range(MOST + 20)]
    f = field((Earlier(trials, {100 + i: 0.5 for i in range(MOST + 20)}, TOTAL),))
    assert f.remembered() == [MOST]
    assert f._earlier.trials[0].steps == 100 + MOST + 19


def test_what_was_tried_before_is_no_option_by_that() -> None:
    assert field((rates("adamw", {1.234e-3: 0.3}, same=True),)).view().options == field().options


def test_a_likeness_that_the_trials_deny_is_taken_back() -> None:
    here = PRIOR.points("adamw", [-4.0, -3.5, -3.0, -2.5, -2.0], 0.0)
    there = Points(
        here.optimizer, here.family, here.u, here.s, here.others, np.ones(len(here), dtype=np.int64)
    )
    ladder = ((Likeness(0.0), 0.0), (Likeness(0.9), 0.0))
    falls, rises = np.linspace(0.7, 0.0, 5), np.linspace(0.0, 0.7, 5)
    found = []
    for theirs in (falls, rises):
        gaps = np.array([soft(g) for g in (*falls, *theirs)])
        seen = Seen(here + there, gaps, np.arange(10, dtype=np.int64))
        found.append(Posterior(PRIOR, seen, ladders=[ladder]).alike[0].correlation)
    assert found == [0.9, 0.0]
