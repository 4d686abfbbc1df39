"""The standings of a race, read from the trials so far."""

from __future__ import annotations

from autoopt.records import BASELINE
from autoopt.tuning.arm import Arm, Key, Tried

REPEAT_SEEDS = 500
"""A race repeats a configuration on seeds from here on."""
FRESH_SEEDS = 1000
"""Finalists are judged on seeds from here on, which tuning never saw."""
_FAR = 0.2


class Race:
    """Optimizers and their trials.

    Args:
        arms: by name, the baseline among them; in the order of the plan.
        seed: of the tuning.
    """

    def __init__(self, arms: dict[str, Arm], seed: int) -> None:
        self.arms, self.seed = arms, seed

    def racing(self) -> list[Arm]:
        """Those that can be used, in the order of the plan."""
        return [a for a in self.arms.values() if not a.dropped]

    def far_behind(self, steps: int) -> bool:
        """Whether the user's own optimizer is so far behind that a second fresh seed would tell nothing."""
        scores = self.scores(steps)
        own = [y for key, by_seed in scores.items() if key[0] == BASELINE for y in by_seed.values()]
        best = min((y for by_seed in scores.values() for y in by_seed.values()), default=None)
        return bool(own) and best is not None and min(own) - best > _FAR

    def scores(self, steps: int) -> dict[Key, dict[int, float]]:
        """y of each configuration at a length, by seed; without configurations that only ever failed."""
        found: dict[Key, dict[int, float]] = {}
        for arm in self.arms.values():
            for t in arm.tried.values():
                if t.steps == steps and t.y is not None:
                    found.setdefault((arm.name, t.settings), {})[t.seed] = t.y
        return found

    def ran(self, key: Key, steps: int, seed: int) -> bool:
        """Whether this was run, is running, or failed: a failure is not tried again."""
        return any(
            t.steps == steps and t.seed == seed and t.settings == key[1]
            for t in self.arms[key[0]].tried.values()
        )

    def next_seed(self, key: Key, steps: int) -> int:
        """The tuning's seed for a configuration that is new at a length, then others in turn; never a fresh one."""
        if not self.ran(key, steps, self.seed):
            return self.seed
        seed = self.seed + REPEAT_SEEDS
        while self.ran(key, steps, seed):
            seed += 1
        return seed

    def measured(self, key: Key, steps: int) -> list[Tried]:
        """Trials of a configuration at a length that ended without diverging."""
        tried = self.arms[key[0]].tried.values()
        return [t for t in tried if t.steps == steps and t.settings == key[1] and t.alive]

    def diverged(self, key: Key) -> bool:
        """Whether a configuration diverged at any length and seed."""
        return any(t.diverged and t.settings == key[1] for t in self.arms[key[0]].tried.values())

    def all_measured(self, steps: int) -> dict[Key, list[Tried]]:
        """`measured` of every configuration that was."""
        found: dict[Key, list[Tried]] = {}
        for arm in self.arms.values():
            for t in arm.tried.values():
                if t.steps == steps and t.alive:
                    found.setdefault((arm.name, t.settings), []).append(t)
        return found
