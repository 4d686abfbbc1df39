"""Counts what the slots of a run do while its trials run: who has a trial, and what the others wait for."""

from __future__ import annotations

import time
from collections.abc import Callable

from autoopt.records import SlotsUsed


class Occupancy:
    """Adds up as the loop between planner and runner goes round.

    Slots are filled one after the other, so each has waited for the questions before its own; those left when the
    planner has nothing more to start have waited for that, and not for the planner.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun: dict[int, float] = {}
        self._since: float | None = None
        self._left: int = 0
        self._slots, self._questions = 0, 0
        self._wall = self._offered = self._busy = self._planner = self._nothing = self._thought = 0.0

    def round(self, slots: int) -> None:
        """The loop goes round: so many slots there are, and the planner is about to be asked for those that are idle."""
        now = self._clock()
        if self._since is not None:
            passed = now - self._since
            self._wall += passed
            self._offered += passed * slots
            self._nothing += passed * self._left
        self._slots = max(self._slots, slots)
        self._since, self._left = now, 0

    def answered(self, trial: int, began: float) -> None:
        """A question that began then was answered with a trial, which now begins."""
        assert self._since is not None
        now = self._clock()
        self._questions += 1
        self._thought += now - began
        self._planner += now - self._since
        self._begun[trial] = now

    def thinking(self, idle: int) -> None:
        """Questions are broken off to look after trials: the slots left over wait for the planner."""
        assert self._since is not None
        self._planner += idle * (self._clock() - self._since)

    def nothing(self, idle: int) -> None:
        """The planner has nothing more to start, for so many slots: they wait since the loop went round."""
        self._left = idle

    def told(self, trial: int, seconds: float) -> None:
        """A trial has ended; telling it to the planner took so long."""
        begun = self._begun.pop(trial, None)
        if begun is not None:
            self._busy += self._clock() - begun
        self._thought += seconds

    def used(self) -> SlotsUsed:
        """What it came to, at the end."""
        self.round(self._slots)
        starting = self._offered - self._busy - self._planner - self._nothing
        ended = max(1, self._questions)
        return SlotsUsed(
            at=time.time(),
            slots=self._slots,
            wall=round(self._wall, 3),
            busy=round(self._busy, 3),
            planner=round(self._planner, 3),
            nothing=round(self._nothing, 3),
            starting=round(max(0.0, starting), 3),
            questions=self._questions,
            question_seconds=round(self._thought / ended, 5),
            trial_seconds=round(self._busy / ended, 3),
        )
