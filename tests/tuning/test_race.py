from __future__ import annotations

import pytest

from autoopt.optim.spec import Range
from autoopt.records import BASELINE
from autoopt.tuning.arm import Arm, Tried, key_of
from autoopt.tuning.race import FRESH_SEEDS, RACE_GAP, Race

SHORT, LONG = 100, 400
RANGES = {"lr": Range(1e-5, 1.0)}


class Board:
    """A race to which results are added by hand."""

    def __init__(self, *names: str) -> None:
        arms = {BASELINE: Arm(BASELINE, {}, {})} | {n: Arm(n, {"lr": 1e-3}, RANGES) for n in names}
        self.race = Race(arms, seed=0)
        self.count = 0

    def add(
        self,
        name: str,
        y: float | None,
        *,
        lr: float = 1e-3,
        steps: int = SHORT,
        seed: int = 0,
        diverged: bool = False,
        failed: bool = False,
    ) -> Board:
        self.count += 1
        hyper = {} if name == BASELINE else {"lr": lr}
        self.race.arms[name].tried[self.count] = Tried(
            self.count, "test", steps, seed, hyper, y, diverged, failed
        )
        return self

    def kept(self, most: int = 4) -> list[str]:
        return [arm.name for arm in self.race.kept(SHORT, LONG, most)]

    def finalists(self) -> list[tuple[str, float]]:
        return [(name, hyper["lr"]) for name, hyper in self.race.finalists(LONG)]


def test_the_best_of_the_screen_are_kept_best_first_and_the_users_own_is_no_rival() -> None:
    board = Board("a", "b", "c").add("a", 1.2).add("b", 1.0).add("c", 1.1).add(BASELINE, 0.1)
    assert board.kept(2) == ["b", "c"]
    assert board.kept(9) == ["b", "c", "a"]


def test_a_tie_in_the_screen_goes_by_the_order_of_the_plan() -> None:
    assert Board("b", "a").add("a", 1.0).add("b", 1.0).kept() == ["b", "a"]


def test_who_was_dropped_diverged_or_has_no_result_is_not_kept() -> None:
    board = Board("a", "b", "c", "d").add("a", 1.0).add("b", 0.5).add("c", 0.4, diverged=True).add("d", None)
    board.race.arms["b"].dropped = "over the limit"
    assert board.kept() == ["a"]
    assert [arm.name for arm in board.race.racing()] == [BASELINE, "a", "c", "d"]


def test_who_falls_behind_at_length_leaves_after_two_tries() -> None:
    board = Board("a", "b").add("a", 1.0).add("b", 1.0).add("a", 0.5, steps=LONG)
    board.add("b", 0.5 + 2 * RACE_GAP, steps=LONG)
    assert board.kept() == ["a", "b"], "one try may have been the wrong rate"
    board.add("b", 0.5 + 1.5 * RACE_GAP, lr=2e-3, steps=LONG)
    assert board.kept() == ["a"]
    board.add("b", 0.5 + 0.5 * RACE_GAP, lr=3e-3, steps=LONG)
    assert board.kept() == ["a", "b"]


def test_who_only_diverged_at_length_leaves() -> None:
    board = Board("a", "b").add("a", 1.0).add("b", 0.9).add("a", 0.5, steps=LONG)
    for lr in (1e-3, 2e-3):
        board.add("b", 3.0, lr=lr, steps=LONG, diverged=True)
    assert board.kept() == ["a"]


def test_trials_in_flight_are_no_tries() -> None:
    board = Board("a", "b").add("a", 1.0).add("b", 1.0).add("a", 0.5, steps=LONG)
    board.add("b", 2.0, steps=LONG).add("b", None, lr=2e-3, steps=LONG)
    assert board.kept() == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "worth"), [("a", True), ("b", True), ("c", True), ("d", False), ("e", False)]
)
def test_promising_is_the_better_half_of_the_screen(name: str, worth: bool) -> None:
    board = Board("a", "b", "c", "d", "e")
    for y, other in enumerate("abcde"):
        board.add(other, float(y))
    assert board.race.promising(board.race.arms[name], SHORT) is worth


def test_promising_is_also_who_still_runs_and_nobody_without_a_result() -> None:
    board = Board("a", "b", "c").add("a", 1.0).add("b", None)
    assert board.race.promising(board.race.arms["b"], SHORT)
    assert not board.race.promising(board.race.arms["c"], SHORT)


def test_finalists_are_the_best_at_length_at_most_two_of_one_optimizer() -> None:
    board = Board("a", "b")
    for i, lr in enumerate((1e-3, 2e-3, 3e-3)):
        board.add("a", 0.50 + 0.01 * i, lr=lr, steps=LONG)
    board.add("b", 0.55, steps=LONG).add("b", 0.1, lr=5e-3).add(BASELINE, 0.2, steps=LONG)
    assert board.finalists() == [("a", 1e-3), ("a", 2e-3), ("b", 1e-3)]


def test_who_is_far_behind_gets_no_fresh_seed() -> None:
    board = Board("a", "b").add("a", 0.5, steps=LONG).add("b", 0.5 + 1.1 * RACE_GAP, steps=LONG)
    assert board.finalists() == [("a", 1e-3)]


def test_fresh_seeds_rank_finalists_and_the_seed_of_the_tuning_no_longer() -> None:
    board = Board("a", "b").add("a", 0.50, steps=LONG).add("b", 0.55, steps=LONG)
    assert board.finalists()[0] == ("a", 1e-3)
    board.add("a", 0.58, steps=LONG, seed=FRESH_SEEDS).add("b", 0.53, steps=LONG, seed=FRESH_SEEDS)
    assert board.finalists()[0] == ("b", 1e-3)


def test_a_configuration_that_diverged_on_any_seed_is_no_finalist() -> None:
    board = Board("a", "b").add("a", 0.5, steps=LONG).add("b", 0.6, steps=LONG)
    board.add("a", 3.0, steps=LONG, seed=FRESH_SEEDS, diverged=True)
    assert board.finalists() == [("b", 1e-3)]


def test_the_users_own_is_far_behind_when_the_gap_is_wide() -> None:
    board = Board("a").add("a", 0.5, steps=LONG)
    assert not board.race.far_behind(LONG), "not known before it has run"
    board.add(BASELINE, 0.5 + 0.9 * RACE_GAP, steps=LONG)
    assert not board.race.far_behind(LONG)
    board.add("a", 0.3, lr=2e-3, steps=LONG)
    assert board.race.far_behind(LONG)
    assert not board.race.far_behind(SHORT)


def test_scores_are_by_configuration_and_seed_without_failures_and_those_in_flight() -> None:
    board = Board("a").add("a", 0.5, steps=LONG).add("a", 0.6, steps=LONG, seed=FRESH_SEEDS)
    board.add("a", None, lr=2e-3, steps=LONG).add("a", None, lr=3e-3, steps=LONG, failed=True)
    board.add("a", 0.1)
    assert board.race.scores(LONG) == {key_of("a", {"lr": 1e-3}): {0: 0.5, FRESH_SEEDS: 0.6}}


def test_what_ran_runs_or_failed_is_known() -> None:
    board = Board("a").add("a", 0.5, steps=LONG).add("a", None, lr=2e-3, steps=LONG)
    board.add("a", None, lr=3e-3, steps=LONG, failed=True)
    for lr in (1e-3, 2e-3, 3e-3):
        assert board.race.ran(key_of("a", {"lr": lr}), LONG, 0)
    assert not board.race.ran(key_of("a", {"lr": 1e-3}), LONG, FRESH_SEEDS)
    assert not board.race.ran(key_of("a", {"lr": 1e-3}), SHORT, 0)
    assert not board.race.ran(key_of("a", {"lr": 4e-3}), LONG, 0)
