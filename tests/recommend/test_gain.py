"""How sure it is that the user gains: one probability, of all trials, the same wherever it is said."""

from __future__ import annotations

import re

import pytest

from autoopt.recommend import recommend
from autoopt.records import BASELINE, Recommendation
from autoopt.tuning.race import FRESH_SEEDS
from tests.recommend.cases import ADAMW, RIVALS, SGD, by_hand, evidence, tell
from tests.tuning.simulated import Machine


def unlucky_pair() -> Recommendation:
    """Muon is ahead in every trial of the tuning, and a little behind on the one pair of fresh seeds."""
    machine = Machine(RIVALS, seconds=300.0)
    planner = machine.planner()
    for number in range(4):
        tell(planner, BASELINE, 0.50 + 0.005 * number, seed=number)
        tell(planner, "muon", 0.40 + 0.005 * number, seed=number)
    tell(planner, BASELINE, 0.43, seed=FRESH_SEEDS)
    tell(planner, "muon", 0.44, seed=FRESH_SEEDS)
    return recommend(evidence(machine, planner, source="default"))


def test_a_pair_of_fresh_seeds_is_evidence_and_no_second_verdict() -> None:
    found = unlucky_pair()
    gain, sentence = found.against_yours, found.against_yours.sentence
    assert (gain.verdict, found.recommendation.optimizer) == ("switch", "muon")
    assert gain.chosen is not None
    assert gain.yours is not None
    assert gain.chosen > gain.yours, "what the pair saw is told as it was"
    assert "loss 0.43 -> 0.44 [" in sentence
    assert "(1 fresh seed); over all trials better" in sentence
    assert gain.probability is not None
    assert gain.probability > 0.9, "four pairs of the tuning say otherwise"
    assert "not decided" not in sentence


@pytest.mark.parametrize("found", [unlucky_pair(), by_hand({BASELINE: [0.5, 0.5], "muon": [0.45, 0.45]})])
def test_the_probability_is_said_once_and_the_row_agrees(found: Recommendation) -> None:
    said = re.findall(r"better with (.*?) probability", found.against_yours.sentence)
    assert len(said) == 1
    assert "default" not in found.reason
    assert "your own" not in found.reason, "the first line has said it"
    row = next(r for r in found.optimizers if r.optimizer == BASELINE)
    assert f"{said[0]} probability" in row.reason


def test_what_is_less_than_nine_in_ten_is_not_decided() -> None:
    found = by_hand({BASELINE: [0.50], "muon": [0.49]}, source="default")
    gain = found.against_yours
    assert gain.probability is not None
    assert 0.5 <= gain.probability < 0.9
    assert (
        f"over all trials not decided, better with {100 * gain.probability:.0f} % probability"
        in gain.sentence
    )


def test_a_pair_of_short_trials_says_that_it_is_one() -> None:
    machine = Machine(RIVALS, seconds=300.0)
    planner = machine.planner()
    tell(planner, BASELINE, 0.5, steps=250)
    tell(planner, "muon", 0.3, steps=250)
    sentence = recommend(evidence(machine, planner)).against_yours.sentence
    assert "(1 seed, after 250 of 1000 steps)" in sentence


def test_what_was_not_tried_here_is_judged_by_what_it_was_elsewhere() -> None:
    machine = Machine({"adamw": ADAMW}, seconds=100.0)
    planner = machine.planner()
    planner.field.own = ("adamw", {"lr": 1e-3})
    tell(planner, "adamw", 0.3, lr=3e-3)
    gain = recommend(evidence(machine, planner, source="default")).against_yours
    assert (gain.verdict, gain.yours) == ("unknown", None)
    assert gain.probability is not None
    assert "by what it was elsewhere better with" in gain.sentence


def test_of_an_untried_one_that_is_nobody_elses_nothing_is_said() -> None:
    machine = Machine({"sgd": SGD}, seconds=100.0)
    planner = machine.planner()
    tell(planner, "sgd", 0.3, lr=3e-3)
    gain = recommend(evidence(machine, planner, own=None)).against_yours
    assert (gain.verdict, gain.probability) == ("unknown", None)
    assert "probability" not in gain.sentence


def test_after_equal_time_the_probability_is_of_that() -> None:
    machine = Machine(RIVALS, seconds=300.0)
    planner = machine.planner()
    for seed in range(3):
        tell(planner, BASELINE, 0.5, seed=FRESH_SEEDS + seed)
        tell(planner, "adamw", 0.2, seed=FRESH_SEEDS + seed)
    found = recommend(evidence(machine, planner, objective="loss_at_time"))
    assert "better after equal time with" in found.against_yours.sentence
