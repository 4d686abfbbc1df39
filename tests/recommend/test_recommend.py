from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from autoopt.errors import NoResult
from autoopt.recommend import recommend
from autoopt.records import BASELINE, Outcome, Recommendation
from autoopt.report import recipe
from autoopt.tuning.race import FRESH_SEEDS
from autoopt.tuning.score import make
from tests.recommend.cases import ADAMW, MUON, SGD, evidence, tell
from tests.tuning.simulated import INITIAL, Machine, Surface

RIVALS = {"adamw": ADAMW, "sgd": SGD, "muon": MUON}


@pytest.fixture(scope="module")
def clear() -> Recommendation:
    """Muon is better by far, and there was time for everything."""
    return recommend(evidence(Machine(RIVALS, seconds=300.0)))


# --- a clear winner -----------------------------------------------------------------------------------------


def test_a_clear_winner_is_recommended_as_it_was_measured(clear: Recommendation) -> None:
    choice = clear.recommendation
    assert choice.optimizer == "muon"
    assert choice.class_ == "torch.optim:muon"
    assert choice.arguments["lr"] == choice.hyper["lr"]
    assert choice.arguments["weight_decay"] == choice.hyper["weight_decay"]
    assert 0.003 < choice.hyper["lr"] < 0.03
    assert choice.tuned
    assert (choice.steps, choice.warmup_steps, choice.schedule) == (1000, 50, "cosine")
    assert choice.lr_interval is not None
    low, high = choice.lr_interval
    assert low <= choice.hyper["lr"] <= high
    assert clear.complete
    assert clear.reason.startswith("Muon has the best expected loss at the real length")


def test_what_is_expected_is_the_mean_over_fresh_seeds_inside_its_interval(clear: Recommendation) -> None:
    expected = clear.expected
    assert expected.loss is not None
    assert expected.low is not None
    assert expected.high is not None
    assert expected.low < expected.loss < expected.high
    truth = MUON.loss(clear.recommendation.hyper["lr"], 1000, 0.0)
    assert truth is not None
    assert expected.low < truth < expected.high
    assert expected.steps == 1000
    assert expected.seeds >= 3
    assert (expected.state_bytes, expected.peak_bytes) == (80, 200)
    assert expected.step_seconds == pytest.approx(0.018)


def test_rows_say_what_became_of_everybody(clear: Recommendation) -> None:
    rows = {row.optimizer: row for row in clear.optimizers}
    assert set(rows) == {*RIVALS, BASELINE}
    assert clear.optimizers[0].optimizer == "muon"
    assert rows["muon"].status == "recommended"
    assert rows["muon"].relative_step_time == pytest.approx(1.0)
    assert rows["adamw"].relative_step_time == pytest.approx(1 / 1.8)
    assert rows["sgd"].status in ("dropped", "worse")
    assert rows[BASELINE].status == "worse"
    assert all(row.trials > 0 and row.seconds > 0 for row in clear.optimizers)
    for row in clear.optimizers:
        assert row.expected is not None
        if row.expected.low is not None and row.expected.loss is not None and row.expected.high is not None:
            assert row.expected.low <= row.expected.loss <= row.expected.high
    assert rows["muon"].pareto, "nothing has a lower loss"


def test_the_gain_adds_up(clear: Recommendation) -> None:
    gain = clear.against_yours
    assert gain.verdict == "switch"
    assert gain.paired
    assert gain.yours is not None
    assert gain.chosen is not None
    assert gain.low is not None
    assert gain.high is not None
    assert gain.low <= gain.chosen <= gain.high < gain.yours
    assert gain.from_tuning is not None
    assert gain.from_switching is not None
    assert gain.yours - gain.chosen == pytest.approx(gain.from_tuning + gain.from_switching)
    assert gain.from_switching > 0
    assert gain.sentence.startswith("against yours: loss ")


def test_a_whole_comparison_at_the_real_length_is_of_high_confidence(clear: Recommendation) -> None:
    assert clear.confidence.label == "high"
    assert clear.confidence.reasons[0] == "the longest trials have the length of the real run"
    assert "fresh seeds" in clear.confidence.reasons[1]


def test_it_survives_yaml_and_json(clear: Recommendation, tmp_path: Path) -> None:
    path = tmp_path / "recommendation.yaml"
    clear.save(path)
    assert Recommendation.load(path) == clear
    assert recipe.load(path) == clear
    adapter = TypeAdapter(Recommendation)
    assert adapter.validate_json(adapter.dump_json(clear, by_alias=True)) == clear
    assert "schema: autoopt/1" in path.read_text()


def test_what_was_noted_and_spent_is_handed_on(clear: Recommendation) -> None:
    assert "a note of the workload" in clear.notes
    assert clear.ledger == {"train": 1.235, "wall": 2.0}
    assert clear.provenance == {"seed": 0}
    assert clear.policy["name"] == "balanced"


# --- keep, tune, switch -------------------------------------------------------------------------------------


def test_the_users_own_class_with_better_settings_is_tuning() -> None:
    found = recommend(evidence(Machine({"adamw": ADAMW, "sgd": SGD}, seconds=200.0, baseline_lr=1e-5)))
    gain = found.against_yours
    assert found.recommendation.optimizer == "adamw"
    assert gain.verdict == "tune"
    assert gain.yours is not None
    assert gain.chosen is not None
    assert gain.from_tuning == pytest.approx(gain.yours - gain.chosen)
    assert gain.from_switching == pytest.approx(0.0)


def test_who_has_the_best_already_keeps_it() -> None:
    found = by_hand({BASELINE: [0.40, 0.41, 0.40], "adamw": [0.42, 0.43, 0.42], "sgd": [0.9, 0.9, 0.9]})
    assert found.recommendation.optimizer == BASELINE
    assert found.against_yours.verdict == "keep"
    assert found.against_yours.sentence.startswith("keep what you have (AdamW at 0.001): loss 0.4033")
    assert found.against_yours.yours == found.against_yours.chosen == found.expected.loss
    assert found.recommendation.class_ == "torch.optim:adamw"
    assert found.recommendation.hyper == {"lr": 1e-3}
    rows = {row.optimizer: row.status for row in found.optimizers}
    assert rows[BASELINE] == "recommended"


def test_without_one_of_the_users_the_comparison_is_with_adamw_at_its_default() -> None:
    found = recommend(evidence(Machine(RIVALS, seconds=300.0), source="default"))
    assert found.against_yours.sentence.startswith("against AdamW at its default: loss ")


def test_an_own_optimizer_that_the_table_lacks_has_no_part_in_tuning() -> None:
    found = recommend(evidence(Machine(RIVALS, seconds=300.0), own=None))
    gain = found.against_yours
    assert gain.verdict == "switch"
    assert gain.from_tuning is None
    assert gain.from_switching is None
    assert "of which" not in gain.sentence


def test_without_a_finished_trial_of_the_users_own_the_gain_is_unknown() -> None:
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, seconds=200.0)
    planner = machine.planner()
    for seed in range(3):
        tell(planner, "adamw", 0.5, seed=FRESH_SEEDS + seed)
        tell(planner, "sgd", 0.9, seed=FRESH_SEEDS + seed)
    found = recommend(evidence(machine, planner))
    assert found.against_yours.verdict == "unknown"
    assert found.against_yours.yours is None
    assert found.against_yours.chosen == pytest.approx(0.5)


# --- ties and doubt -----------------------------------------------------------------------------------------


def by_hand(
    losses: dict[str, list[float]], seconds: dict[str, float] | None = None, **options: Any
) -> Recommendation:
    """Fresh seeds at the real length, and nothing else."""
    machine = Machine({"adamw": ADAMW, "sgd": SGD, "muon": MUON}, seconds=300.0)
    planner = machine.planner()
    for name, values in losses.items():
        for seed, loss in enumerate(values):
            step = (seconds or {}).get(name, 0.01)
            tell(planner, name, loss, seed=FRESH_SEEDS + seed, step_seconds=step)
    return recommend(evidence(machine, planner, **options))


NEAR = {"adamw": [0.500, 0.501, 0.499, 0.500, 0.500], "sgd": [0.499, 0.500, 0.498, 0.499, 0.499]}
"""Sgd is better by 0.2 %, on five seeds with little noise."""


def test_a_tie_goes_to_the_faster_one() -> None:
    found = by_hand(NEAR, {"adamw": 0.005, "sgd": 0.010}, tolerance=0.05)
    assert found.recommendation.optimizer == "adamw"
    assert found.reason == "Adamw ties with Sgd within 5 % and is cheaper."
    assert {r.optimizer: r.status for r in found.optimizers}["sgd"] == "tie"


def test_a_tie_of_equal_cost_stays_with_the_lowest_loss() -> None:
    found = by_hand(NEAR, tolerance=0.05)
    assert found.recommendation.optimizer == "sgd"
    rows = {r.optimizer: (r.status, r.reason) for r in found.optimizers}
    assert rows["adamw"][0] == "tie"
    assert "80 % probability" in rows["adamw"][1]


def test_a_tie_with_the_users_own_keeps_it_even_when_it_is_slower() -> None:
    losses = {BASELINE: NEAR["adamw"], "sgd": NEAR["sgd"]}
    found = by_hand(losses, {BASELINE: 0.02, "sgd": 0.01}, tolerance=0.05)
    assert found.recommendation.optimizer == BASELINE
    assert found.against_yours.verdict == "keep"
    assert found.reason == "Sgd is no better than your own optimizer by more than 5 %."


def test_without_evidence_the_lowest_wins_and_the_order_is_undecided() -> None:
    found = by_hand({"adamw": [0.50], "sgd": [0.52]})
    assert found.recommendation.optimizer == "adamw"
    assert {r.optimizer: r.status for r in found.optimizers}["sgd"] == "undecided"
    assert "the order of the first ones is undecided" in found.confidence.reasons
    assert found.confidence.label != "high"


def test_a_difference_far_beyond_the_noise_is_worse() -> None:
    found = by_hand({"adamw": [0.5, 0.5, 0.5], "sgd": [0.9, 0.9, 0.9]})
    row = next(r for r in found.optimizers if r.optimizer == "sgd")
    assert row.status == "worse"
    assert row.expected is not None
    assert row.expected.loss == pytest.approx(0.9)


def test_the_order_in_which_results_came_does_not_matter() -> None:
    losses = {"adamw": [0.50, 0.52], "sgd": [0.55, 0.56], "muon": [0.51, 0.50]}
    found = [
        by_hand({name: losses[name] for name in order}).recommendation
        for order in itertools.permutations(losses)
    ]
    assert all(choice == found[0] for choice in found)


def test_fresh_seeds_outweigh_a_lucky_one_of_the_tuning() -> None:
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, seconds=300.0)
    planner = machine.planner()
    tell(planner, "sgd", 0.1)
    tell(planner, "adamw", 0.5)
    for seed in range(3):
        tell(planner, "sgd", 0.9, seed=FRESH_SEEDS + seed)
        tell(planner, "adamw", 0.5, seed=FRESH_SEEDS + seed)
    found = recommend(evidence(machine, planner))
    assert found.recommendation.optimizer == "adamw"
    assert found.expected.seeds == 3


@pytest.mark.parametrize(("objective", "chosen"), [("loss_at_steps", "muon"), ("loss_at_time", "adamw")])
def test_a_loss_at_equal_time_makes_the_slow_one_pay(objective: str, chosen: str) -> None:
    """Muon is a little better at equal steps, and four times as slow; losses fall to half from 250 to 1000 steps."""
    machine = Machine({"adamw": ADAMW, "muon": MUON}, seconds=300.0)
    planner = machine.planner()
    planner.layout = replace(planner.layout, screen_steps=250, final_steps=1000)
    for name, loss, step in (("adamw", 0.50, 0.01), ("muon", 0.40, 0.04)):
        tell(planner, name, 2 * loss, steps=250, step_seconds=step)
        for seed in (0, FRESH_SEEDS, FRESH_SEEDS + 1, FRESH_SEEDS + 2):
            tell(planner, name, loss, seed=seed, step_seconds=step)
    found = recommend(evidence(machine, planner, objective=objective))
    assert found.recommendation.optimizer == chosen
    rows = {r.optimizer: r for r in found.optimizers}
    at_time = rows["muon"].loss_at_equal_time
    if chosen == "adamw":
        assert at_time == pytest.approx(0.8, rel=0.02), "a quarter of the steps: what it had at 250"
    else:
        assert at_time == pytest.approx(0.4, rel=0.02)


# --- the length of the real run -----------------------------------------------------------------------------


def test_a_rate_from_shorter_trials_is_carried_to_the_real_length_with_a_note() -> None:
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, steps=20_000, seconds=200.0)
    found = recommend(evidence(machine))
    assert found.expected.steps < 20_000
    assert found.recommendation.steps == 20_000
    measured = next(r for r in found.optimizers if r.status == "recommended").hyper["lr"]
    carried = found.recommendation.hyper["lr"]
    assert carried < measured
    note = next(n for n in found.notes if "learning rate lowered" in n)
    assert f"at {found.expected.steps} steps" in note
    assert "20000" in note
    assert found.recommendation.arguments["lr"] == carried
    assert found.recommendation.lr_interval is not None
    assert found.recommendation.lr_interval[0] < carried <= found.recommendation.lr_interval[1]
    assert f"at {found.expected.steps} of 20000 steps" in found.reason


def test_at_the_real_length_nothing_is_carried(clear: Recommendation) -> None:
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


def test_who_trained_well_when_short_and_diverged_at_length_says_so() -> None:
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, seconds=300.0)
    planner = machine.planner()
    planner.layout = replace(planner.layout, screen_steps=250, final_steps=1000)
    tell(planner, "adamw", 0.5, steps=250)
    tell(planner, "adamw", None)
    tell(planner, "sgd", 0.8)
    found = recommend(evidence(machine, planner))
    row = next(r for r in found.optimizers if r.optimizer == "adamw")
    assert (row.status, row.reason) == ("failed", "diverged at 1000 steps")
    assert row.expected is not None
    assert row.expected.steps == 250


@pytest.mark.parametrize(
    ("share", "seeds", "label"),
    [(1.0, 3, "high"), (1.0, 2, "medium"), (0.25, 3, "medium"), (0.2, 3, "low")],
)
def test_confidence_is_first_of_all_the_length(share: float, seeds: int, label: str) -> None:
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
def test_what_lowers_confidence_is_named(options: dict[str, Any], label: str, reason: str) -> None:
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


def test_without_an_own_one_the_policys_starting_point_is_handed_on_untuned() -> None:
    machine = Machine(RIVALS, seconds=0.5, step_seconds=1.0)
    found = recommend(evidence(machine, machine.planner(), source="default"))
    assert found.recommendation.optimizer == "adamw"
    assert found.recommendation.hyper["lr"] == 1e-3
    assert not found.recommendation.tuned
    assert found.against_yours.verdict == "unknown"


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
