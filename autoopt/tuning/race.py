"""Who leads, who is behind and who stays: the standings of a race, read from the trials so far."""

from __future__ import annotations

from autoopt.records import BASELINE, Hyper
from autoopt.tuning.arm import Arm, Key, key_of

FRESH_SEEDS = 1000
"""Finalists are judged on seeds from here on, which tuning never saw."""
RACE_GAP = 0.2
"""An optimizer whose best is so much worse in y after two tries at the final length is dropped."""
_FINALISTS = 3


class Race:
    """Optimizers and their trials.

    Args:
        arms: by name, the baseline among them; in the order of the plan.
        seed: of the tuning.
    """

    def __init__(self, arms: dict[str, Arm], seed: int) -> None:
        self.arms, self.seed = arms, seed

    def racing(self) -> list[Arm]:
        """Those not dropped, in the order of the plan."""
        return [a for a in self.arms.values() if not a.dropped]

    def promising(self, arm: Arm, steps: int) -> bool:
        """Among the better half at the screen's length, or not finished yet: worth another rate."""
        bests = sorted(b.y for a in self.racing() if (b := a.best(steps, self.seed)) and b.y is not None)
        mine = arm.best(steps, self.seed)
        if any(t.pending for t in arm.at(steps, self.seed)):
            return True
        return mine is not None and mine.y is not None and mine.y <= bests[len(bests) // 2]

    def kept(self, screen: int, final: int, most: int) -> list[Arm]:
        """Optimizers in the race at the final length, best first: `most` of the screen, until one falls behind."""
        seed = self.seed
        racing = [a for a in self.racing() if a.tunable]
        ranked = sorted(
            (best.y, i, a)
            for i, a in enumerate(racing)
            if (best := a.best(screen, seed)) is not None and best.y is not None
        )
        kept = [a for _, _, a in ranked[:most]]
        bests = {a.name: b.y for a in kept if (b := a.best(final, seed)) is not None and b.y is not None}
        if not bests:
            return kept
        leader = min(bests.values())
        survivors = []
        for arm in kept:
            done = sum(not t.pending for t in arm.at(final, seed))
            behind = bests.get(arm.name, float("inf")) - leader > RACE_GAP
            if final != screen and done >= 2 and behind:
                continue
            survivors.append(arm)
        return survivors

    def far_behind(self, steps: int) -> bool:
        """Whether the user's own optimizer is so far behind that a second fresh seed would tell nothing."""
        scores = self.scores(steps)
        own = [y for key, by_seed in scores.items() if key[0] == BASELINE for y in by_seed.values()]
        best = min((y for by_seed in scores.values() for y in by_seed.values()), default=None)
        return bool(own) and best is not None and min(own) - best > RACE_GAP

    def finalists(self, steps: int) -> list[tuple[str, Hyper]]:
        """Configurations worth fresh seeds: the best at the final length, at most two of one optimizer.

        Those with fresh seeds are ranked by them; a configuration next to one that diverged stays out.
        """
        scores = self.scores(steps)
        ranked: list[tuple[float, Key]] = []
        for key, by_seed in scores.items():
            arm = self.arms[key[0]]
            if key[0] == BASELINE or arm.dropped or self._diverged(key, steps):
                continue
            fresh = [y for s, y in by_seed.items() if s >= self.seed + FRESH_SEEDS]
            ranked.append((sum(fresh) / len(fresh) if fresh else next(iter(by_seed.values())), key))
        ranked.sort()
        taken: list[Key] = []
        for y, key in ranked:
            if taken and y - ranked[0][0] > RACE_GAP:
                break
            if sum(k[0] == key[0] for k in taken) < 2 and len(taken) < _FINALISTS:
                taken.append(key)
        return [(name, dict(pairs)) for name, pairs in taken]

    def scores(self, steps: int) -> dict[Key, dict[int, float]]:
        """y of each configuration at a length, by seed; without configurations that only ever failed."""
        found: dict[Key, dict[int, float]] = {}
        for arm in self.arms.values():
            for t in arm.tried.values():
                if t.steps == steps and t.y is not None:
                    found.setdefault(key_of(arm.name, t.hyper), {})[t.seed] = t.y
        return found

    def _diverged(self, key: Key, steps: int) -> bool:
        arm = self.arms[key[0]]
        return any(
            t.diverged for t in arm.tried.values() if t.steps == steps and key_of(arm.name, t.hyper) == key
        )

    def ran(self, key: Key, steps: int, seed: int) -> bool:
        """Whether this was run, is running, or failed: a failure is not tried again."""
        return any(
            t.steps == steps and t.seed == seed and key_of(key[0], t.hyper) == key
            for t in self.arms[key[0]].tried.values()
        )
