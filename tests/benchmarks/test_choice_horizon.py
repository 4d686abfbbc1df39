from __future__ import annotations

import gzip
import json
import math
import sys
from pathlib import Path

import pytest

from benchmarks.choice import horizon
from benchmarks.choice.horizon import Best, agreement, best, bests, measured, shift, slope, spearman, winner
from benchmarks.choice.surface import Surface
from tests.benchmarks.choice_tables import EASY, INITIAL, TRAP, bowl, rates, rows, surface


def test_the_best_rate_is_the_bottom_of_a_parabola_whose_points_need_not_be_even() -> None:
    def bowl_at(centre: float, xs: list[float]) -> dict[float, float]:
        return {x: 1 + (x - centre) ** 2 for x in xs}

    assert best(bowl_at(-2.2, [-3.0, -2.5, -2.0, -1.5]), 9.0) == Best(-2.2)
    assert best(bowl_at(-1.9, [-3.0, -2.0, -1.5]), 9.0) == Best(-1.9)


def test_no_parabola_goes_through_a_run_that_diverged_and_none_beyond_the_edge() -> None:
    assert best({-3.0: 2.0, -2.0: 1.0, -1.0: 4.0}, worst=4.0) == Best(-2.0)
    assert best({-3.0: 1.0, -2.0: 1.5, -1.0: 2.0}, worst=4.0) == Best(-3.0, -1)
    assert best({-3.0: 4.0, -2.0: 4.0}, worst=4.0) is None
    assert best({}, worst=4.0) is None


def test_the_shift_is_in_decades_per_factor_of_eight_and_needs_two_rates_inside_of_what_was_measured() -> (
    None
):
    known = {1 / 64: Best(-2.0), 1 / 8: Best(-2.1), 0.25: Best(-1.0, 1), 1.0: Best(-2.6)}
    assert shift(known, 1 / 64) == pytest.approx(-0.3)
    assert shift(known, 1 / 8) == pytest.approx(-0.5)
    assert shift(known, 0.25) is None
    assert shift(known, 0.5) is None
    assert slope(known) == pytest.approx(-0.3)  # the one at the edge is left out
    assert slope({0.5: Best(-2.0), 1.0: Best(-2.1)}) is None


def test_a_drift_that_was_put_into_a_table_is_found_in_it() -> None:
    toy = surface({"adamw": bowl(0.1, -0.2, 0.1), "sgd": bowl(0.15, 0.2, -0.1), "lion": bowl(0.2)})
    found = measured(toy)
    assert set(found) == {"adamw", "sgd", "lion"}
    for name, expected in (("adamw", -0.3), ("sgd", 0.3), ("lion", 0.0)):
        known = bests(found[name], toy.worst)
        assert set(known) == {1 / 8, 1 / 4, 1 / 2, 1.0}
        assert shift(known, 1 / 8) == pytest.approx(expected, abs=0.1)
        assert slope(known) == pytest.approx(expected, abs=0.1)


def test_seed_0_alone_is_compared() -> None:
    assert measured(surface(EASY, noise=(0.5, -0.5))) == measured(surface(EASY))


def test_rank_correlation_shares_the_ranks_of_equal_values() -> None:
    assert spearman([(1, 1), (2, 2), (3, 3), (4, 0)]) == pytest.approx(-0.2)
    assert spearman([(1, 5), (1, 5), (2, 7), (3, 9)]) == pytest.approx(1.0)
    assert spearman([(1, 1), (2, 2)]) is None
    assert spearman([(1, 1), (1, 2), (1, 3)]) is None


def test_rankings_of_configurations_and_of_optimizers_are_told_apart() -> None:
    # Each optimizer prefers the other end at the real length; which one is better stays as it was.
    found = {
        name: {0.5: {-3.0: floor, -2.0: floor + 0.3}, 1.0: {-3.0: floor + 0.3, -2.0: floor}}
        for name, floor in (("adamw", 1.0), ("sgd", 1.1), ("lion", 1.2))
    }
    configurations, optimizers = agreement(found, 0.5)
    assert optimizers == 1.0
    assert configurations is not None
    assert configurations < 0
    assert agreement(found, 0.25) == (None, None)


def test_the_winner_of_a_short_length_may_diverge_at_the_real_one() -> None:
    toy = surface(TRAP)
    found = measured(toy)
    short, full = winner(toy, found, 1 / 8), winner(toy, found, 1.0)
    assert short is not None
    assert full is not None
    assert (short.optimizer, short.diverged) == ("adamw", True)
    assert short.regret == pytest.approx(toy.worst - toy.best()[2])
    assert (full.regret, full.diverged) == (0.0, False)


def test_optimizers_of_which_nothing_is_left_are_no_trouble() -> None:
    table = rows(EASY | {"nadam": lambda x, steps: None if steps < 800 else 0.2 + x * x})
    toy = Surface("toy", table)
    assert 1 / 8 not in bests(measured(toy)["nadam"], toy.worst)
    assert "| toy | nadam | - | - | - |" in horizon.markdown({"toy": toy})


def test_the_command_prints_all_tables_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("conv", "long_deep"):
        text = "".join(json.dumps(r) + "\n" for r in rows(EASY))
        (tmp_path / f"{name}.json.gz").write_bytes(gzip.compress(text.encode()))
    monkeypatch.setattr(sys, "argv", ["horizon", "--tables", str(tmp_path)])
    horizon.main()
    printed = capsys.readouterr().out
    assert "conv 800, long_deep 800" in printed
    lines = printed.splitlines()
    assert "| workload | T/8 | T/4 | T/2 | fit |" in lines
    assert "| workload | optimizer | T/8 | T/4 | T/2 | T |" in lines
    assert [line[:20] for line in lines if line.startswith("| mean of")] == [
        "| mean of the usual ",
        "| mean of the long |",
    ] * 3
    rate = f"{rates('muon')[2]:.2g}"
    assert f"| conv | muon | {rate} | {rate} | {rate} | {rate} |" in lines
    v = math.log(0.1 * 1.5**3 + 0.01 * INITIAL)
    assert min(measured(surface(EASY))["muon"][1 / 8].values()) == pytest.approx(v, rel=1e-2)


def test_a_folder_without_tables_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["horizon", "--tables", str(tmp_path)])
    with pytest.raises(SystemExit, match="No table"):
        horizon.main()
