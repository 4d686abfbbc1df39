from __future__ import annotations

import math

import numpy as np
import pytest

from autoopt.optim.spec import Range
from autoopt.records import BASELINE, Hyper
from autoopt.tuning.arm import Arm, Tried
from autoopt.tuning.belief import Prior
from autoopt.tuning.field import Field
from autoopt.tuning.knowledge import NOTHING
from autoopt.tuning.option import RATES, Option

TOTAL = 800
NAMES = ("adamw", "sgd", "muon")


def field(own: tuple[str, Hyper] | None = None) -> Field:
    ranges = {"lr": Range(1e-6, 1.0), "weight_decay": Range(1e-3, 1.0)}
    arms = {BASELINE: Arm(BASELINE, {}, {})}
    arms |= {n: Arm(n, {"lr": 1e-3, "weight_decay": 0.1}, ranges) for n in NAMES}
    return Field(Prior(NOTHING, dict.fromkeys([*NAMES, BASELINE], -3.0)), arms, TOTAL, own)


def add(
    f: Field,
    name: str,
    y: float | None,
    *,
    lr: float = 1e-3,
    steps: int = TOTAL,
    wd: float = 0.1,
    seed: int = 0,
    diverged: bool = False,
    failed: bool = False,
) -> Option:
    hyper = {} if name == BASELINE else {"lr": lr, "weight_decay": wd}
    number = sum(len(a.tried) for a in f.arms.values()) + 1
    f.arms[name].tried[number] = Tried(number, "race 1", steps, seed, hyper, y, diverged, failed)
    return Option(name, hyper)


def test_every_optimizer_has_the_same_rates_around_its_own_and_the_users_is_one_point() -> None:
    f = field()
    for name in NAMES:
        rates = [math.log10(o.hyper["lr"]) for o in f.options if o.optimizer == name]
        assert rates == pytest.approx(list(-3.0 + RATES), abs=3e-3)
    assert [o.hyper for o in f.options if o.optimizer == BASELINE] == [{}]


def test_an_option_is_there_once_and_those_left_out_are_forgotten() -> None:
    f = field()
    number = len(f.options)
    f.add(Option("adamw", {"weight_decay": 0.1, "lr": f.options[1].hyper["lr"]}))
    assert len(f.options) == number
    f.keep(["sgd"])
    assert {o.optimizer for o in f.options} == {"sgd"}
    assert len(f.targets()) == len(f.options) == len(RATES)


def test_a_trial_at_a_rate_between_is_an_option_from_then_on() -> None:
    f = field()
    tried = add(f, "adamw", 0.5, lr=1.23e-3)
    view = f.view()
    assert tried.key in {o.key for o in view.options}


def test_what_did_best_is_believed_best_and_what_diverged_is_not() -> None:
    f = field()
    good = add(f, "muon", 0.5)
    bad = add(f, "sgd", 3.0, diverged=True)
    add(f, "adamw", 0.9)
    view = f.view()
    best = view.best(lambda _o: True)
    assert best is not None
    assert best.optimizer == "muon"
    assert view.expected(good) < view.expected(bad)
    chances = view.chances(NAMES)
    assert chances["muon"] == max(chances.values())
    assert sum(chances.values()) == pytest.approx(1.0)


def test_an_optimizer_that_is_not_asked_for_takes_no_chance() -> None:
    view = field().view()
    assert set(view.chances(["adamw"])) == {"adamw"}
    assert view.chances(["adamw"])["adamw"] == 1.0


def test_gaps_are_to_the_best_of_the_same_length() -> None:
    """Short trials have higher losses, which says nothing against who was only tried short."""
    low, high = field(), field()
    for f, y in ((low, 1.0), (high, 5.0)):
        add(f, "adamw", 0.5)
        add(f, "sgd", y, steps=TOTAL // 4)
        add(f, "muon", y + 0.1, steps=TOTAL // 4)
    assert low.view().means.tolist() == high.view().means.tolist()


def test_failures_say_nothing() -> None:
    f = field()
    add(f, "adamw", 0.5)
    before = f.view().means.copy()
    add(f, "adamw", None, failed=True)
    assert f.view().means.tolist() == before.tolist()


def test_the_users_own_known_optimizer_is_believed_like_ours_at_its_settings() -> None:
    f = field(own=("adamw", {"lr": 1e-3, "weight_decay": 0.1}))
    add(f, BASELINE, 0.5)
    add(f, "muon", 0.9)
    view = f.view()
    ours, yours = Option("adamw", {"lr": 1e-3, "weight_decay": 0.1}), Option(BASELINE, {})
    assert view.expected(yours) == pytest.approx(view.expected(ours))
    assert view.difference(yours, ours).se == pytest.approx(0.0, abs=1e-6)


def test_a_difference_is_the_gap_of_the_means_and_turns_round_with_its_sides() -> None:
    f = field()
    a, b = add(f, "muon", 0.5), add(f, "sgd", 0.9)
    view = f.view()
    there, back = view.difference(a, b), view.difference(b, a)
    assert there.mean == pytest.approx(view.expected(a) - view.expected(b))
    assert there.mean == pytest.approx(-back.mean)
    assert there.se == pytest.approx(back.se)
    assert there.probability_below(0.0) > 0.9


def test_within_grows_with_the_tolerance_and_is_larger_for_the_best() -> None:
    f = field()
    a, b = add(f, "muon", 0.5), add(f, "sgd", 0.9)
    view = f.view()
    assert view.within(a, 0.0) <= view.within(a, 0.05) <= view.within(a, 10.0) == 1.0
    assert view.within(a, 0.05) > view.within(b, 0.05)


def test_doubt_counts_against_what_is_less_known() -> None:
    f = field()
    known = add(f, "muon", 0.5)
    view = f.view()
    unknown = next(o for o in view.options if o.optimizer == "sgd")
    more = [view.expected(o, 1.0) - view.expected(o) for o in (known, unknown)]
    assert 0 <= more[0] < more[1]


def test_the_interval_of_the_rate_holds_the_best_and_narrows() -> None:
    f = field()
    start = Option("adamw", {"lr": 1e-3, "weight_decay": 0.1})
    wide = f.view().rates(start)
    for x, y in ((-4.5, 1.2), (-4, 0.9), (-3.5, 0.7), (-3, 0.5), (-2.5, 0.7), (-2, 0.9), (-1.5, 1.2)):
        add(f, "adamw", y, lr=10.0**x)
    low, high = f.view().rates(start)
    assert low <= -3 <= high
    assert high - low < wide[1] - wide[0]


def test_moves_are_the_allowed_ones_the_one_worth_most_first() -> None:
    f = field()
    add(f, "muon", 0.5)
    moves = f.view().moves(
        [TOTAL, TOTAL // 2],
        lambda name, steps: steps * (2.0 if name == "sgd" else 1.0),
        lambda o, n: o.optimizer != "muon" or n == TOTAL,
    )
    assert {(m.option.optimizer, m.steps) for m in moves if m.option.optimizer == "muon"} == {("muon", TOTAL)}
    worth = [m.worth for m in moves]
    assert worth == sorted(worth, reverse=True)
    for m in moves:
        seconds = m.steps * (2.0 if m.option.optimizer == "sgd" else 1.0)
        assert m.worth == pytest.approx(m.gain / seconds)
        assert m.gain >= 0


def test_the_same_trials_give_the_same_draws() -> None:
    one, two = field(), field()
    for f in (one, two):
        add(f, "muon", 0.5)
    assert np.array_equal(one.view().draws, two.view().draws)


def test_options_stand_apart_from_the_configuration_they_change() -> None:
    f = field()
    plain = add(f, "adamw", 0.5)
    f.arms["adamw"].ladders = {"clip": (0.0, 1.0), "warmup": (0.05, 0.0, 0.1)}
    for more in ({"clip": 1.0}, {"warmup": 0.1}):
        f.add(Option("adamw", plain.hyper | more))
    view = f.view()
    moved = [o for o in f.options if {"clip", "warmup"} & set(o.hyper)]
    assert [view.difference(o, plain).se > 0.01 for o in moved] == [True, True]
    assert view.difference(plain, plain).se == pytest.approx(0.0, abs=1e-6)


def test_spread_and_noise_are_those_of_the_first_trials_told_whenever_the_belief_is_asked_for() -> None:
    """A resume hears of all trials at once; the first sitting asked after each."""

    def told(f: Field, number: int) -> None:
        rng = np.random.default_rng(number)
        name = NAMES[number % 3]
        hyper = {"lr": float(f"{10 ** rng.uniform(-4.5, -1.5):.3g}"), "weight_decay": 0.1}
        # Numbers are given at the start, and trials end in another order.
        trial = 1000 - number
        y = float(rng.uniform(0.1, 1.5))
        f.arms[name].tried[trial] = Tried(trial, "race 1", TOTAL, number % 4, hyper, y, told=number + 1)

    often, once = field(), field()
    for number in range(140):
        told(often, number)
        if number % 9 == 0:
            often.view()
        told(once, number)
    assert often.view().posterior.fit == once.view().posterior.fit
    views = often.view(), once.view()
    for option in views[0].options:
        assert views[0].expected(option) == pytest.approx(views[1].expected(option), abs=1e-8)
    few = field()
    for number in range(128):
        told(few, number)
    assert few.view().posterior.fit == once.view().posterior.fit
