from __future__ import annotations

import numpy as np
import pytest

from autoopt.tuning.belief import Points, Prior
from autoopt.tuning.knowledge import NOTHING
from autoopt.tuning.posterior import NOISES, SCALES, Fit, Posterior, Seen, improvement

PRIOR = Prior(NOTHING, {"adamw": -3.0, "sgd": -1.0})


def at(*rates: float, s: float = 0.0, name: str = "adamw") -> Points:
    return PRIOR.points(name, rates, s)


def seen(points: Points, *gaps: float, seeds: tuple[int, ...] | None = None) -> Seen:
    return Seen(points, np.array(gaps), np.array(seeds or (0,) * len(gaps), dtype=np.int64))


EMPTY = seen(at(), *())


def test_before_any_trial_it_is_the_prior() -> None:
    belief, where = Posterior(PRIOR, EMPTY), at(-4.0, -3.0)
    assert belief.mean(where) == pytest.approx(PRIOR.mean(where))
    assert belief.covariance(where) == pytest.approx(PRIOR.covariance(where, where))


def test_it_is_the_textbooks_formula() -> None:
    known, gaps = at(-3.5, -2.5), np.array([0.1, 0.3])
    belief = Posterior(PRIOR, Seen(known, gaps, np.array([0, 1], dtype=np.int64)))
    where = at(-3.0) + at(-1.0, name="sgd")
    assert belief.scale in [s for s, _ in SCALES]
    assert belief.noise in [n for n, _ in NOISES]
    # Seeds differ: their luck has nothing in common.
    k = PRIOR.covariance(known, known, belief.scale) + (belief.noise**2 + 1e-8) * np.eye(2)
    cross, own = (PRIOR.covariance(where, other, belief.scale) for other in (known, where))
    inverse = np.linalg.inv(k)
    assert belief.mean(where) == pytest.approx(
        PRIOR.mean(where) + cross @ inverse @ (gaps - PRIOR.mean(known))
    )
    assert belief.covariance(where) == pytest.approx(own - cross @ inverse @ cross.T)


def test_the_luck_of_one_seed_is_partly_shared() -> None:
    known, gaps = at(-3.5, -2.5), np.array([0.1, 0.3])
    belief = Posterior(PRIOR, Seen(known, gaps, np.array([4, 4], dtype=np.int64)))
    luck = belief.noise**2 * np.array([[1.0, 0.3], [0.3, 1.0]])
    k = PRIOR.covariance(known, known, belief.scale) + luck + 1e-8 * np.eye(2)
    where = at(-3.0)
    cross = PRIOR.covariance(where, known, belief.scale)
    expected = PRIOR.mean(where) + cross @ np.linalg.solve(k, gaps - PRIOR.mean(known))
    assert belief.mean(where) == pytest.approx(expected)


def test_the_mean_returns_to_what_was_seen_and_the_doubt_shrinks() -> None:
    known = at(-4.0, -3.0, -2.0)
    gaps = np.array([0.35, 0.3, 0.4])
    belief = Posterior(PRIOR, seen(known, *gaps))
    assert np.abs(belief.mean(known) - gaps).max() < 0.03
    before = np.diag(PRIOR.covariance(known, known, belief.scale))
    assert (np.diag(belief.covariance(known)) < before).all()


def test_trials_unlike_the_networks_widen_the_spread() -> None:
    usual = PRIOR.mean(at(-4.0, -3.0, -2.0))
    assert Posterior(PRIOR, seen(at(-4.0, -3.0, -2.0), *usual)).scale == 1.0
    wild = Posterior(PRIOR, seen(at(-5.0, -4.0, -3.0, -2.0, -1.0), 0.8, 0.0, 0.8, 0.0, 0.8))
    assert wild.scale > 1.0


def test_noisy_repeats_are_taken_for_noise() -> None:
    same = at(-3.0, -3.0, -3.0, -3.0)
    calm = Posterior(PRIOR, seen(same, 0.3, 0.3, 0.3, 0.3, seeds=(0, 1, 2, 3)))
    wild = Posterior(PRIOR, seen(same, 0.1, 0.5, 0.2, 0.4, seeds=(0, 1, 2, 3)))
    assert calm.noise < wild.noise


def test_trials_in_flight_change_no_mean_and_leave_less_to_learn() -> None:
    known, flying, where = seen(at(-4.0), 0.3), at(-3.0), at(-3.5, -3.0, -2.0)
    alone = Posterior(PRIOR, known)
    both = Posterior(PRIOR, known, (flying, np.array([0], dtype=np.int64), np.array([9], dtype=np.int64)))
    assert both.mean(where).tolist() == alone.mean(where).tolist()
    assert (np.diag(both.covariance(where)) < np.diag(alone.covariance(where))).all()
    assert both.information(flying, flying)[0] < 0.5 * alone.information(flying, flying)[0]


def test_information_is_how_far_the_mean_would_move() -> None:
    belief = Posterior(PRIOR, seen(at(-4.0), 0.3))
    tried, target = at(-2.5, s=1.0), at(-3.0)
    joint = belief.covariance(tried + target)
    expected = abs(joint[0, 1]) / np.sqrt(joint[0, 0] + belief.noise**2)
    assert belief.information(tried, target)[0] == pytest.approx(expected)


@pytest.mark.parametrize("leader", [0, -1])
def test_improvement_is_what_a_million_draws_say(leader: int) -> None:
    means = np.array([0.10, 0.12, 0.30, 0.11])
    moves = np.array([0.05, 0.08, 0.15, 0.02])
    best, second = 0.10, 0.11
    found = improvement(means, moves, best, second, leader)
    normal = np.random.default_rng(0).standard_normal(1_000_000)
    for i, (mean, move) in enumerate(zip(means, moves, strict=True)):
        after = mean + move * normal
        gain = np.maximum(after - second, 0) if i == leader else np.maximum(best - after, 0)
        assert found[i] == pytest.approx(gain.mean(), abs=2e-4)


def test_what_teaches_nothing_gains_nothing() -> None:
    found = improvement(np.array([0.1, 0.2]), np.zeros(2), 0.1, 0.2, 0)
    assert found == pytest.approx([0.0, 0.0], abs=1e-12)


def told(*which: int) -> Seen:
    """Some of 90 trials of two optimizers, at three lengths and on three seeds."""
    rng = np.random.default_rng(7)
    everything = at(*rng.uniform(-5, -1, 45)) + at(*rng.uniform(-3, 1, 45), s=1.0, name="sgd")
    gaps, seeds = rng.uniform(0, 0.7, 90), rng.integers(0, 3, 90)
    chosen = np.array(which, dtype=np.int64)
    return Seen(everything.take(chosen), gaps[chosen], seeds[chosen], chosen)


FIT = Fit(2.0, 0.05)
STEPS = [  # finished, in flight
    ((0, 1), (2, 50)),
    ((0, 1, 50), (2, 60)),
    ((0, 1, 2, 50), (60, *range(61, 89))),  # 2 was told after 50
    ((0, 1, 2, 50, 70), (60, 62, 63)),  # 61 failed
    ((0, 1, 2, 50, 70), ()),
    ((1, 2, 50), (3,)),
]


def test_a_belief_that_goes_on_from_the_last_one_is_the_one_made_afresh() -> None:
    targets, more = at(-4.0, -3.0, -2.0), at(-1.5) + at(-1.0, name="sgd")
    last: Posterior | None = None
    for step, (done, flying) in enumerate(STEPS):
        way = told(*flying)
        options = targets + more if step >= 2 else targets
        pending = (way.at, way.seeds, way.ids)
        afresh = Posterior(PRIOR, told(*done), pending, fit=FIT)
        last = Posterior(PRIOR, told(*done), pending, fit=FIT, before=last)
        assert last.means_of(options) == pytest.approx(afresh.mean(options), abs=1e-9)
        assert last.covariance_of(options) == pytest.approx(afresh.covariance(options), abs=1e-9)
        for s in (0.0, 1.0):
            told_by = afresh.information(options.at(s), options)
            assert last.information_of(options, s) == pytest.approx(told_by, abs=1e-7)


def test_what_was_fitted_otherwise_is_not_gone_on_with() -> None:
    where = at(-4.0, -2.0)
    calm = Posterior(PRIOR, told(0, 1, 2), fit=Fit(1.0, 0.02))
    wild = Posterior(PRIOR, told(0, 1, 2, 3), fit=FIT, before=calm)
    assert wild.means_of(where) == pytest.approx(Posterior(PRIOR, told(0, 1, 2, 3), fit=FIT).mean(where))
