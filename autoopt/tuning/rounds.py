"""The race in rounds: the same number of trials for every optimizer that is in it."""

from __future__ import annotations

from collections.abc import Iterator

from autoopt.tuning.asking import Moment, Proposal
from autoopt.tuning.leaders import IN_THE_RACE, Leaders
from autoopt.tuning.moves import Moves
from autoopt.tuning.pace import Pace
from autoopt.tuning.race import Race
from autoopt.tuning.view import Move

WORTHLESS = 1e-3
"""Expected gain in y below which no trial is worth making: a thousandth of the loss, where seeds differ by hundredths."""
_ROUND_SHARE = 0.5
"""Of the worker seconds left that one round may take."""


class Rounds:
    """Round by round, each optimizer its most useful trial.

    Args:
        leaders: the belief.
        race: the trials so far.
        moves: what may be tried.
        pace: what trials cost.
        confirm_seconds: kept free before the deadline.
        workers: trials at once.
    """

    def __init__(
        self, leaders: Leaders, race: Race, moves: Moves, pace: Pace, confirm_seconds: float, workers: int
    ) -> None:
        self._leaders, self._race, self._moves, self._pace = leaders, race, moves, pace
        self._confirm_seconds, self._workers = confirm_seconds, workers
        self.number = 0
        self.history: list[tuple[int, dict[str, float]]] = []
        """Round -> optimizer -> its chance of being the best when the round began."""
        self.waiting: list[str] = []
        """Who has had no trial in this round."""

    @property
    def stage(self) -> str:
        """What a trial that begins now belongs to."""
        return f"race {max(1, self.number)}"

    def reached(self, stage: str) -> None:
        """A trial of this stage was begun, in this sitting or before it."""
        if stage.startswith("race "):
            self.number = max(self.number, int(stage.removeprefix("race ")))

    def proposals(self, now: Moment) -> Iterator[Proposal]:
        """The trials of those who wait, then those of the next round."""
        for _ in range(2):  # what waits may have nothing left to try: then a new round
            moves = self._possible(now)
            while self.waiting:
                name = self.waiting.pop(0)
                mine = [m for m in moves if m.option.optimizer == name]
                move = self._moves.outwards(name, mine) or next(iter(mine), None)
                if move is not None:
                    seed = self._race.next_seed(move.option.key, move.steps)
                    yield Proposal(self.stage, move.option, move.steps, seed)
            self._begin(moves, now)

    def _begin(self, moves: list[Move], now: Moment) -> None:
        """Who is in the next round: the likeliest first, as many as a share of the time left pays for."""
        best: dict[str, Move] = {}
        for move in moves:
            best.setdefault(move.option.optimizer, move)
        racing = [a.name for a in self._race.racing() if a.tunable]
        if not racing or max((m.gain for m in best.values()), default=0.0) < WORTHLESS:
            return
        chances = self._leaders.view.chances(racing)
        kept = [n for n in racing if chances[n] >= IN_THE_RACE]
        kept.sort(key=lambda n: -chances[n])
        left = (self._end(now) - now.elapsed) * self._workers
        spent, entered = 0.0, list[str]()
        for name in kept or [max(racing, key=lambda n: chances[n])]:
            if name not in best:
                continue
            spent += self._pace.seconds(name, best[name].steps)
            if entered and spent > _ROUND_SHARE * left:
                break
            entered.append(name)
        if entered:
            self.number += 1
            self.history.append((self.number, chances))
            self.waiting = entered

    def _possible(self, now: Moment) -> list[Move]:
        if self._moves.offer_settings(self._leaders.view):
            self._leaders.forget()
        end = self._end(now)
        return self._moves.possible(
            self._leaders.view, lambda name, steps: self._pace.in_time(name, steps, now.elapsed, end)
        )

    def _end(self, now: Moment) -> float:
        """When trials of the race have to end: before the finals, or with them if they begin beside them."""
        end = now.deadline - self._confirm_seconds
        return end if now.elapsed < end else now.deadline
