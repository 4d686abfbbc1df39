from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from autoopt.records import Outcome, TrialResult, TrialSpec
from autoopt.workload import load
from benchmarks import results
from benchmarks.published import __main__ as command
from benchmarks.published import gpt, quadratic, vit
from benchmarks.published.paired import difference
from benchmarks.published.progress import remaining
from benchmarks.published.trials import Bench, Contender, grid, trainer


class Bowl:
    """Best at a rate of 0.02; diverges above 0.5; counts what it trains."""

    def __init__(self) -> None:
        self.seen: list[TrialSpec] = []

    def __call__(self, spec: TrialSpec) -> TrialResult:
        self.seen.append(spec)
        if spec.hyper["lr"] > 0.5:
            return TrialResult(spec=spec, outcome=Outcome.DIVERGED)
        loss = math.log10(spec.hyper["lr"] / 0.02) ** 2 + 0.01 * spec.seed
        return TrialResult(spec=spec, outcome=Outcome.COMPLETED, loss=loss)


RATES = Contender("SGD", "sgd", 7, grid((0.002, 0.02, 0.2, 2.0)))


def test_tuning_takes_the_mean_over_the_seeds_and_a_diverged_run_never_wins() -> None:
    tuned = Bench("claim", Bowl(), 1.0).tune(RATES, (0, 2))
    assert tuned.best == {"lr": 0.02}
    assert [loss for _, loss in tuned.losses] == pytest.approx([1.01, 0.01, 1.01, math.inf])
    assert not tuned.at_edge()


def test_the_best_at_the_end_of_the_grid_is_told() -> None:
    assert Bench("claim", Bowl(), 1.0).tune(Contender("", "sgd", 7, RATES.grid[1:]), (0,)).at_edge()


def test_a_kept_result_is_not_run_again_and_another_one_is(tmp_path: Path) -> None:
    first, second = Bowl(), Bowl()
    kept = tmp_path / "claim.jsonl"
    before = Bench("claim", first, 1.0, kept).tune(RATES, (0,))
    bench = Bench("claim", second, 1.0, kept)
    assert bench.tune(RATES, (0,)) == before
    assert not second.seen
    bench.run(RATES, {"lr": 0.02}, seed=1)
    bench.run(Contender("", "sgd", 8, ()), {"lr": 0.02}, seed=0)
    assert [(spec.seed, spec.steps) for spec in second.seen] == [(1, 7), (0, 8)]


def test_the_interval_is_of_the_differences_so_what_a_seed_does_to_both_cancels() -> None:
    shared = [0.0, 5.0, -3.0, 9.0]
    found = difference([x + 0.1 for x in shared], shared)
    assert found is not None
    assert found.mean == pytest.approx(0.1)
    assert found.half < 1e-9
    assert found.verdict == "higher"
    # sd 1 over three seeds: 4.30 / sqrt(3)
    wide = difference([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert wide is not None
    assert wide.half == pytest.approx(4.30 / math.sqrt(3))
    assert wide.verdict == "within noise"


def test_there_is_no_difference_when_a_run_diverged() -> None:
    assert difference([1.0, None], [1.0, 1.0]) is None


def test_time_left_is_at_the_pace_so_far() -> None:
    assert remaining(seconds=10.0, done=1.0, work=4.0) == 30.0
    assert remaining(seconds=10.0, done=0.0, work=4.0) is None


def test_curves_are_means_over_seeds_and_steps() -> None:
    spec = TrialSpec(id=0, stage="", optimizer="sgd", hyper={}, steps=4, seed=0)
    low, high = (
        TrialResult(spec=spec, outcome=Outcome.COMPLETED, curve=[(i, x + i) for i in (1, 2, 3, 4)])
        for x in (0.0, 1.0)
    )
    assert gpt.tenths([low, high], 2) == {2: 2.0, 4: 4.0}


def test_the_steps_to_a_loss_are_interpolated_and_never_extrapolated() -> None:
    assert gpt.steps_for(2.5, 2.5, 1.5, 400) == 200
    assert gpt.steps_for(1.5, 2.5, 1.5, 400) == 400
    assert gpt.steps_for(2.0, 2.5, 1.5, 400) == pytest.approx(200 * 2**0.5)
    assert gpt.steps_for(2.6, 2.5, 1.5, 400) is None
    assert gpt.steps_for(1.4, 2.5, 1.5, 400) is None
    assert gpt.steps_for(2.0, math.inf, 1.5, 400) is None


def test_the_problems_have_the_same_eigenvalues_and_differ_in_their_diagonals() -> None:
    diagonal, blocks, rotated = quadratic.matrices().values()
    expected = torch.diag(diagonal)
    for matrix in (blocks, rotated):
        torch.testing.assert_close(torch.linalg.eigvalsh(matrix), expected, rtol=1e-8, atol=1e-8)
    assert expected[-1] / expected[0] == pytest.approx(1e4)
    assert torch.diag(rotated).max() / torch.diag(rotated).min() < 100


def test_a_descent_ends_at_the_target_at_its_limit_or_when_it_explodes() -> None:
    matrix, sgd = torch.eye(3, dtype=torch.float64), quadratic.OPTIMIZERS["SGD(momentum 0.9)"]
    assert quadratic.descend(matrix, lambda p, lr, _: torch.optim.SGD(p, lr=lr), 1.0, 0).steps == 1
    slow = quadratic.descend(matrix, sgd, 1e-6, 0, limit=5)
    assert slow.steps is None
    assert 0.99 < slow.loss < 1
    assert quadratic.descend(matrix, sgd, 100.0, 0).loss == math.inf


def test_trials_of_a_claim_are_paired_and_repeat_themselves() -> None:
    workload = load(str(vit.MODEL))
    try:
        train = trainer(workload)
        specs = [c.spec("vit", c.grid[0], 3).model_copy(update={"steps": 2}) for c in (vit.ADAMW, vit.SAI)]
        ours, theirs = (train(spec) for spec in specs)
        assert ours.digests == theirs.digests
        assert ours.curve[0] == theirs.curve[0]  # same weights, same first batch
        assert ours.loss != theirs.loss
        assert train(specs[0]).loss == ours.loss
    finally:
        workload.close()


def test_a_stop_keeps_the_claims_that_were_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(kept: Path | None) -> str:
        raise KeyboardInterrupt

    file = tmp_path / "RESULTS.md"
    monkeypatch.setattr(results, "RESULTS", file)
    monkeypatch.setattr(command, "heading", lambda title, said: f"\n## {title}\n\n    {said}\n\n")
    monkeypatch.setattr(command.torch, "set_num_threads", lambda n: None)
    claims = {"one": ("First", lambda kept: "It holds.\n"), "two": ("Second", stopped)}
    monkeypatch.setattr(command, "CLAIMS", claims)
    monkeypatch.setattr(sys, "argv", ["published"])
    with pytest.raises(SystemExit, match="Stopped in two"):
        command.main()
    written = file.read_text()
    assert "## Published: First" in written
    assert "It holds." in written
    assert "Second" not in written
