from __future__ import annotations

from autoopt.optim.spec import Range
from autoopt.records import BASELINE
from autoopt.tuning.arm import Arm, Tried, key_of
from autoopt.tuning.race import FRESH_SEEDS, REPEAT_SEEDS, Race

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


def test_who_was_dropped_is_not_racing_and_the_order_is_the_plans() -> None:
    board = Board("b", "a", "c")
    board.race.arms["a"].dropped = "over the limit"
    assert [arm.name for arm in board.race.racing()] == [BASELINE, "b", "c"]


def test_the_users_own_is_far_behind_when_the_gap_is_wide() -> None:
    board = Board("a").add("a", 0.5, steps=LONG)
    assert not board.race.far_behind(LONG), "not known before it has run"
    board.add(BASELINE, 0.6, steps=LONG)
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


def test_a_repeat_takes_the_next_seed_and_never_a_fresh_one() -> None:
    board, key = Board("a"), key_of("a", {"lr": 1e-3})
    assert board.race.next_seed(key, LONG) == 0
    board.add("a", 0.5, steps=LONG)
    assert board.race.next_seed(key, LONG) == REPEAT_SEEDS
    board.add("a", None, steps=LONG, seed=REPEAT_SEEDS)
    assert board.race.next_seed(key, LONG) == REPEAT_SEEDS + 1 < FRESH_SEEDS
    assert board.race.next_seed(key, SHORT) == 0, "new at another length"


def test_measured_is_what_trained_at_that_length() -> None:
    board, key = Board("a"), key_of("a", {"lr": 1e-3})
    board.add("a", 0.5, steps=LONG).add("a", 2.0, steps=LONG, seed=5, diverged=True)
    board.add("a", None, steps=LONG, seed=6).add("a", 0.4).add("a", 0.3, lr=2e-3, steps=LONG)
    assert [t.y for t in board.race.measured(key, LONG)] == [0.5]


def test_what_diverged_once_at_any_length_or_seed_counts_as_diverged() -> None:
    board, key = Board("a"), key_of("a", {"lr": 1e-3})
    board.add("a", 0.5, steps=LONG)
    assert not board.race.diverged(key)
    board.add("a", 2.0, steps=SHORT, seed=FRESH_SEEDS, diverged=True)
    assert board.race.diverged(key)
    assert not board.race.diverged(key_of("a", {"lr": 2e-3}))
