from __future__ import annotations

import gzip
import json
import math
import sys
from pathlib import Path

import pytest

from benchmarks.choice import regret, report
from benchmarks.choice.regret import Outcome, summarise
from benchmarks.choice.world import Choice, World
from tests.benchmarks.choice_tables import EASY, INITIAL, TRAP, bowl, rates, rows, surface


def oracle(world: World, _budget: float, _workers: int) -> Choice:
    name, rate, _ = world.surface.best()
    return Choice(name, rate)


def test_an_oracle_has_no_regret_and_nobody_has_less() -> None:
    toy = surface(EASY, noise=(0.02, -0.02))
    assert all(o.regret == 0 and not o.diverged for o in regret.play(toy, "oracle", oracle, [1, 3], 3, 2))
    everything = [Choice(n, r * f) for n in toy.optimizers for r in rates(n) for f in (1, 1.5, 30, 1 / 30)]
    assert min(regret.regret(toy, c)[0] for c in everything) == 0


def test_regret_is_the_log_ratio_with_one_percent_of_the_initial_loss_added() -> None:
    toy, c = surface(EASY), 0.01 * INITIAL
    chosen = Choice("adamw", rates("adamw")[3])
    best = 0.1 * (1 + 2 * (math.log10(rates("muon")[2] / 5e-3) + 0.5) ** 2)
    assert regret.regret(toy, chosen)[0] == pytest.approx(math.log((0.3 + c) / (best + c)), rel=1e-6)


def test_a_choice_that_diverges_counts_as_no_training() -> None:
    toy = surface(TRAP)
    far, diverged = regret.regret(toy, Choice("adamw", rates("adamw")[-1]))
    assert diverged
    assert far == pytest.approx(toy.worst - toy.best()[2])


def test_the_worst_is_a_workloads_mean_and_the_spread_is_between_tunings() -> None:
    def outcome(workload: str, tuning: int, far: float, diverged: bool = False) -> Outcome:
        return Outcome(workload, "x", 3.0, tuning, Choice("adamw", 1e-3), far, diverged)

    found = summarise(
        [outcome("a", 0, 0.0), outcome("a", 1, 0.2), outcome("b", 0, 0.4), outcome("b", 1, 0.8, True)]
    )
    assert (found.mean, found.worst, found.where) == (pytest.approx(0.35), pytest.approx(0.6), "b")
    assert found.spread == pytest.approx(0.3 / math.sqrt(2))
    assert (found.diverged, found.number) == (1, 4)


def test_nothing_is_learned_from_the_workload_itself_nor_from_held_out_ones() -> None:
    known = {
        "conv": surface(EASY | {"sgd": bowl(0.02)}, name="conv"),
        "vit": surface(EASY, name="vit"),
        "recurrent": surface(EASY | {"sgd": bowl(0.02), "muon": bowl(1.9)}, name="recurrent"),
    }

    def fixed(name: str) -> str:
        return report.tuner_of("fixed", known[name], known)(World(known[name], 0), 1.0, 2).optimizer

    assert (fixed("conv"), fixed("vit")) == ("muon", "sgd")  # each the other's best


def test_the_report_prints_open_and_held_out_workloads_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("conv", "vit", "recurrent"):
        text = "".join(json.dumps(r) + "\n" for r in rows(EASY, (0.02, -0.02)))
        (tmp_path / f"{name}.json.gz").write_bytes(gzip.compress(text.encode()))
    flags = ["--tables", str(tmp_path), "--budgets", "1", "3", "--tunings", "2", "--detail"]
    monkeypatch.setattr(sys, "argv", ["report", *flags])
    report.main()
    printed = capsys.readouterr().out
    apart = printed.index("Held out: recurrent.")
    assert "Workloads open to tuning: conv, vit." in printed[:apart]
    for words, _ in report.TUNERS.values():
        assert f"| {words} |" in printed[:apart]
        assert f"| {words} |" in printed[apart:]
