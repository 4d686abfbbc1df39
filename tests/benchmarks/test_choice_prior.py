from __future__ import annotations

import pytest

from benchmarks.choice import prior, replay
from tests.benchmarks.choice_tables import EASY, bowl, surface

TOY = surface(EASY, noise=(0.02, -0.02))


def pair(workload: str, of: str, without: float, having: float, tuning: int = 0) -> prior.Pair:
    return prior.Pair(workload, of, 1.0, tuning, without, having)  # type: ignore[arg-type]


def test_a_run_before_is_the_products_own_with_other_luck() -> None:
    known = replay.known_without("toy")
    first = prior.before(TOY, 0, known, same=True)
    assert first == prior.before(TOY, 0, known, same=True)
    assert first.trials
    assert {p.optimizer for p in first.trials} <= set(EASY)
    assert first.total == TOY.steps
    assert first != prior.before(TOY, 1, known, same=True)


def test_both_kinds_are_played_at_every_budget_and_the_same_workload_helps() -> None:
    other = surface({"adamw": bowl(0.2), "sgd": bowl(0.1, 0.5), "muon": bowl(0.4)}, name="other")
    found = prior.play(TOY, [other], [1.0], 2)
    assert [(p.of, p.tuning) for p in found] == [("same", 0), ("other", 0), ("same", 1), ("other", 1)]
    same = [p for p in found if p.of == "same"]
    assert sum(p.having for p in same) <= sum(p.without for p in same)


def test_the_table_tells_changes_and_the_worst_workload() -> None:
    found = [pair("conv", "same", 0.4, 0.2), pair("deep", "same", 0.2, 0.3), pair("conv", "other", 0.1, 0.1)]
    lines = prior.markdown(found).splitlines()
    assert "| 1 | 0.300 | 0.250 | -0.050 ± 0.150 | +0.100 deep |" in lines[2]
    assert lines[3].startswith("| another workload | open to tuning | 1 | 0.100 | 0.100 | +0.000")
    assert len(lines) == 4


@pytest.mark.parametrize("name", ["recurrent", "autoencoder"])
def test_workloads_held_out_are_told_apart(name: str) -> None:
    lines = prior.markdown([pair("conv", "same", 0.4, 0.2), pair(name, "same", 0.2, 0.3)]).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == ["open to tuning", "held out"]
