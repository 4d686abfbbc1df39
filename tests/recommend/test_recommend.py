from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from autoopt.recommend import recommend
from autoopt.records import BASELINE, Recommendation
from autoopt.report import recipe
from autoopt.tuning.race import FRESH_SEEDS
from tests.recommend.cases import ADAMW, MUON, RIVALS, SGD, by_hand, evidence, tell
from tests.tuning.simulated import Machine


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
    assert clear.reason.startswith("Muon has the best expected loss after 1000 steps")


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


def test_a_whole_comparison_at_the_real_length_is_as_sure_as_the_belief(clear: Recommendation) -> None:
    assert clear.confidence.label in ("medium", "high")
    assert clear.confidence.within_5_percent is not None
    assert (clear.confidence.label == "high") is (clear.confidence.within_5_percent >= 0.5)
    assert clear.confidence.reasons[0] == "its trials have the length of the real run"
    assert "fresh seeds" in clear.confidence.reasons[2]


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
    assert " steps" not in found.against_yours.sentence, "both had the real length"


def test_a_comparison_at_a_shorter_length_says_at_which() -> None:
    def sentence(steps: int, seconds: float, baseline_lr: float) -> str:
        machine = Machine({"adamw": ADAMW, "sgd": SGD}, steps=steps, seconds=seconds, baseline_lr=baseline_lr)
        return recommend(evidence(machine)).against_yours.sentence

    assert re.search(
        r"^against .*\], of which .* \(\d seeds?, after 4000 of 8000 steps\); over all",
        sentence(8000, 300.0, 1e-5),
    )
    assert re.search(
        r"^keep .*: loss [0-9.]+ after \d+ of 20000 steps, and nothing", sentence(20_000, 200.0, 1e-3)
    )


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
    assert "clearly enough to leave it: Sgd is next" in found.reason


def test_without_evidence_the_lowest_wins_and_the_order_is_undecided() -> None:
    found = by_hand({"adamw": [0.50], "sgd": [0.52]})
    assert found.recommendation.optimizer == "adamw"
    assert {r.optimizer: r.status for r in found.optimizers}["sgd"] == "undecided"
    assert "probability" in found.reason
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


def test_a_fresh_seed_of_the_users_own_alone_decides_nothing() -> None:
    """Time ran out before the leader's fresh seed: it is compared with the user's own on the seed of the tuning."""
    machine = Machine(RIVALS, seconds=100.0)
    planner = machine.planner()
    tell(planner, BASELINE, 0.5)
    tell(planner, "muon", 0.2)
    tell(planner, BASELINE, 0.45, seed=FRESH_SEEDS)
    found = recommend(evidence(machine, planner))
    assert found.recommendation.optimizer == "muon"
    assert found.against_yours.yours == pytest.approx(0.5, rel=1e-6)
    assert "measured on the seed it was tuned on" in found.confidence.reasons


def test_options_are_told_and_handed_on_but_not_to_the_constructor() -> None:
    machine = Machine(RIVALS, seconds=300.0)
    planner = machine.planner()
    options = {"clip": 0.5, "warmup": 0.2}
    tell(planner, BASELINE, 0.5)
    for seed in (0, 1):
        tell(planner, "adamw", 0.2, seed=seed, options=options)
    norms = [0.5, 0.5, 0.5, 0.5, 0.5, 20.0]
    found = recommend(evidence(machine, planner, changes={"gradient_norms": norms}))
    choice = found.recommendation
    assert choice.hyper == {"lr": 1e-3, "weight_decay": 0.01, **options}
    assert choice.arguments == {"lr": 1e-3, "weight_decay": 0.01}
    assert choice.warmup_steps == 200
    assert "gradients clipped to a norm of 0.5, a warm-up of 20 % of the run instead of 5 %" in found.reason
    assert any("40 times the usual one" in note for note in found.notes)
