"""What the evidence is worth: lengths, edges, confidence, little or nothing to go by, metrics."""

from __future__ import annotations

from typing import Any

import pytest

from autoopt.errors import NoResult
from autoopt.recommend import recommend
from autoopt.records import BASELINE, Outcome
from autoopt.tuning.race import FRESH_SEEDS
from autoopt.tuning.score import make
from tests.recommend.cases import ADAMW, RIVALS, SGD, by_hand, evidence, tell
from tests.tuning.simulated import INITIAL, Machine, Surface

# --- the length of the real run -----------------------------------------------------------------------------


def test_what_shorter_trials_say_of_the_real_length_comes_with_a_note() -> None:
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, steps=20_000, seconds=200.0)
    found = recommend(evidence(machine, source="default"))
    assert found.expected.steps < 20_000
    assert found.recommendation.steps == 20_000
    assert found.recommendation.optimizer != BASELINE
    rate = found.recommendation.hyper["lr"]
    note = next(n for n in found.notes if "betas and weight decay are those of the shorter trials" in n)
    assert f"at most {found.expected.steps} of 20000 steps" in note
    assert found.recommendation.arguments["lr"] == rate
    assert found.recommendation.lr_interval is not None
    assert found.recommendation.lr_interval[0] <= rate <= found.recommendation.lr_interval[1]
    assert "after 20000 steps, inferred from trials of at most" in found.reason


def test_at_the_real_length_nothing_is_carried() -> None:
    clear = recommend(evidence(Machine(RIVALS, seconds=300.0)))
    assert not any("lowered" in note for note in clear.notes)
    row = clear.optimizers[0]
    assert clear.recommendation.hyper == row.hyper


@pytest.mark.parametrize(("edge", "said"), [(4e-3, True), (1e-2, False)])
def test_an_edge_nearby_is_said(edge: float, said: bool) -> None:
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, seconds=300.0)
    planner = machine.planner()
    for seed in range(3):
        tell(planner, "adamw", 0.4, seed=FRESH_SEEDS + seed, lr=3e-3)
    tell(planner, "adamw", None, lr=edge)
    found = recommend(evidence(machine, planner))
    assert found.recommendation.hyper["lr"] == 3e-3
    assert any(f"a learning rate of {edge:.3g} diverged" in note for note in found.notes) is said


def test_a_configuration_that_diverged_on_one_seed_is_not_recommended() -> None:
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, seconds=300.0)
    planner = machine.planner()
    for seed in range(3):
        tell(planner, "adamw", 0.1 if seed else None, seed=FRESH_SEEDS + seed)
        tell(planner, "sgd", 0.9, seed=FRESH_SEEDS + seed)
    found = recommend(evidence(machine, planner))
    assert found.recommendation.optimizer == "sgd"
    row = next(r for r in found.optimizers if r.optimizer == "adamw")
    assert (row.status, row.reason) == ("failed", "every trial diverged or failed")
    assert row.expected is None


def test_who_trained_well_when_short_and_diverged_at_length_is_not_recommended() -> None:
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, seconds=300.0)
    planner = machine.planner()
    tell(planner, "adamw", 0.5, steps=250)
    tell(planner, "adamw", None)
    tell(planner, "sgd", 0.8)
    found = recommend(evidence(machine, planner))
    row = next(r for r in found.optimizers if r.optimizer == "adamw")
    assert (row.status, row.reason) == ("failed", "every trial diverged or failed")
    assert found.recommendation.optimizer == "sgd"


@pytest.mark.parametrize(
    ("share", "seeds", "label"),
    [(1.0, 3, "high"), (0.25, 3, "medium"), (0.2, 3, "low")],
)
def test_confidence_is_first_of_all_the_length(
    share: float, seeds: int, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoopt.recommend._HIGH", 0.0)  # a belief that is sure enough
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, seconds=300.0)
    planner = machine.planner()
    for seed in range(seeds):
        tell(planner, "adamw", 0.4, seed=FRESH_SEEDS + seed, steps=int(1000 * share))
        tell(planner, "sgd", 0.9, seed=FRESH_SEEDS + seed, steps=int(1000 * share))
    assert recommend(evidence(machine, planner)).confidence.label == label


def test_confidence_of_what_was_not_repeated_is_low() -> None:
    machine = Machine({"adamw": ADAMW}, seconds=300.0)
    planner = machine.planner()
    tell(planner, "adamw", 0.4)
    confidence = recommend(evidence(machine, planner)).confidence
    assert confidence.label == "low"
    assert "measured on the seed it was tuned on" in confidence.reasons


@pytest.mark.parametrize(
    ("options", "label", "reason"),
    [
        ({"complete": False}, "medium", "stopped early"),
        ({"changes": {"validation": "prequential"}}, "low", "no held-out data"),
    ],
)
def test_what_lowers_confidence_is_named(
    options: dict[str, Any], label: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoopt.recommend._HIGH", 0.0)  # a belief that is sure enough
    losses = {"adamw": [0.5, 0.5, 0.5], "sgd": [0.9, 0.9, 0.9]}
    found = by_hand(losses, **options)
    assert found.confidence.label == label
    assert any(reason in line for line in found.confidence.reasons)
    assert by_hand(losses).confidence.label == "high"


def test_batches_that_differ_make_the_comparison_unpaired() -> None:
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, seconds=300.0)
    planner = machine.planner()
    for seed in range(3):
        tell(planner, "adamw", 0.5, seed=FRESH_SEEDS + seed)
        tell(planner, BASELINE, 0.9, seed=FRESH_SEEDS + seed, digests=["a", "other"])
    found = recommend(evidence(machine, planner))
    assert not found.against_yours.paired
    assert found.confidence.label == "medium"
    assert any("unpaired" in line for line in found.confidence.reasons)


# --- little or nothing to go by -----------------------------------------------------------------------------


def test_a_budget_for_no_trial_hands_on_the_users_own_untuned() -> None:
    machine = Machine(RIVALS, seconds=0.5, step_seconds=1.0)
    found = recommend(evidence(machine, machine.planner()))
    assert found.recommendation.optimizer == BASELINE
    assert not found.recommendation.tuned
    assert found.recommendation.hyper == {"lr": 1e-3}
    assert found.against_yours.verdict == "keep"
    assert found.expected.loss is None
    assert found.confidence.label == "low"
    assert found.reason.startswith("Not tuned: your own optimizer")
    assert {row.status for row in found.optimizers} == {"not tried"}


def test_without_an_own_one_what_the_belief_holds_best_is_handed_on_untuned() -> None:
    machine = Machine(RIVALS, seconds=0.5, step_seconds=1.0)
    planner = machine.planner()
    found = recommend(evidence(machine, planner, source="default"))
    best = planner.view.best(lambda o: o.optimizer != BASELINE)
    assert best is not None
    assert (found.recommendation.optimizer, found.recommendation.hyper) == (best.optimizer, best.hyper)
    assert not found.recommendation.tuned
    assert found.against_yours.verdict == "unknown"


def test_where_every_optimizer_is_too_slow_for_the_budget_the_likeliest_is_handed_on_untuned() -> None:
    slow = {name: Surface(0.3, -2.5, cost=300.0) for name in ("adamw", "sgd")}
    machine = Machine(slow, seconds=60.0)
    planner = machine.planner()
    assert all(arm.dropped.startswith("cut") for arm in planner.arms.values() if arm.tunable)
    found = recommend(evidence(machine, planner, source="default"))
    assert found.recommendation.optimizer in slow
    assert not found.recommendation.tuned


def test_a_run_stopped_before_its_first_trial_is_untuned_too() -> None:
    machine = Machine(RIVALS, seconds=100.0)
    found = recommend(evidence(machine, machine.planner(), complete=False))
    assert not found.recommendation.tuned
    assert not found.complete


def test_when_every_trial_diverged_there_is_no_result() -> None:
    machine = Machine(
        {"adamw": Surface(0.3, -2.5, edge=-9), "sgd": Surface(0.3, -2.5, edge=-9)}, seconds=60.0
    )
    with pytest.raises(NoResult, match=r"All \d+ trials diverged") as caught:
        recommend(evidence(machine))
    assert caught.value.exit_code == 5
    assert caught.value.hint


def test_when_every_trial_failed_the_last_failure_is_told() -> None:
    machine = Machine({"adamw": ADAMW}, seconds=60.0)
    planner = machine.planner()
    tell(planner, "adamw", None)
    tell(planner, "adamw", None, outcome=Outcome.CRASHED, message="killed by SIGSEGV", lr=2e-3)
    with pytest.raises(NoResult, match=r"No trial of 2 can be used.*SIGSEGV"):
        recommend(evidence(machine, planner))


def test_an_end_above_the_initial_loss_is_no_candidate() -> None:
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, seconds=60.0)
    planner = machine.planner()
    tell(planner, "adamw", 2 * INITIAL)
    tell(planner, "sgd", 0.9 * INITIAL)
    assert recommend(evidence(machine, planner)).recommendation.optimizer == "sgd"


def test_who_failed_was_dropped_or_never_had_a_turn_says_so() -> None:
    machine = Machine({n: ADAMW for n in ("adamw", "sgd", "adan", "lion", "nadam")}, seconds=300.0)
    planner = machine.planner()
    for seed in (0, FRESH_SEEDS):
        tell(planner, "adamw", 0.4, seed=seed)
    for lr in (1e-3, 2e-3):
        tell(planner, "sgd", None, outcome=Outcome.CRASHED, message="killed by SIGSEGV", lr=lr)
    tell(planner, "adan", None)
    planner.arms["lion"].dropped = "needs 9.00 GiB, over the policy's limit"
    rows = {r.optimizer: (r.status, r.reason) for r in recommend(evidence(machine, planner)).optimizers}
    assert rows["adamw"][0] == "recommended"
    assert rows["sgd"][0] == "failed"
    assert "SIGSEGV" in rows["sgd"][1]
    assert rows["adan"] == ("failed", "every trial diverged or failed")
    assert rows["lion"] == ("dropped", "needs 9.00 GiB, over the policy's limit")
    assert rows["nadam"] == ("not tried", "the time ran out before its turn")
    order = [r.status for r in recommend(evidence(machine, planner)).optimizers]
    assert order[0] == "recommended"
    assert order[-1] == "not tried"


def test_who_exceeds_a_limit_is_not_recommended_however_good() -> None:
    machine = Machine(RIVALS, seconds=300.0)
    planner = machine.run()
    planner.arms["muon"].dropped = "over the policy's limit"
    assert recommend(evidence(machine, planner)).recommendation.optimizer != "muon"


# --- metrics ------------------------------------------------------------------------------------------------


def test_a_metric_to_maximise_decides_over_the_loss() -> None:
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, seconds=300.0)
    planner = machine.planner()
    planner.score = make(INITIAL, ("accuracy", "max"))
    for seed in range(3):
        tell(planner, "adamw", 0.3, seed=FRESH_SEEDS + seed, metric=0.90)
        tell(planner, "sgd", 0.5, seed=FRESH_SEEDS + seed, metric=0.97)
        tell(planner, BASELINE, 0.4, seed=FRESH_SEEDS + seed, metric=0.80)
    found = recommend(evidence(machine, planner))
    assert found.recommendation.optimizer == "sgd"
    assert found.expected.metric == pytest.approx(0.97)
    assert found.expected.loss == pytest.approx(0.5)
    gain = found.against_yours
    assert gain.yours == pytest.approx(0.80)
    assert gain.chosen == pytest.approx(0.97)
    assert gain.from_tuning is not None
    assert gain.from_switching is not None
    assert gain.from_tuning == pytest.approx(0.10)
    assert gain.from_switching == pytest.approx(0.07), "gains of a metric to maximise are above zero"
    assert "accuracy" in gain.sentence
    assert "accuracy" in found.reason


@pytest.mark.parametrize(
    ("values", "best", "told"),
    [
        ((60.0, 70.0), None, True),
        ((60.0, 70.0), 100.0, False),
        ((0.6, 0.7), None, False),
        ((60.0, 170.0), None, False),
    ],
)
def test_of_what_may_be_a_percentage_it_is_said_how_it_was_compared(
    values: tuple[float, float], best: float | None, told: bool
) -> None:
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, seconds=300.0)
    planner = machine.planner()
    planner.score = make(INITIAL, ("acc1", "max"), best=best)
    for name, value in zip(("adamw", "sgd"), values, strict=True):
        tell(planner, name, 0.5, metric=value)
    notes = recommend(evidence(machine, planner)).notes
    assert any('METRIC = ("acc1", "max", 100)' in note for note in notes) is told
