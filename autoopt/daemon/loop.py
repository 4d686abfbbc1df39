"""The loop, in a thread of its own: guards that ended are noted, what may start is started, what runs write is told.

A round that fails changes nothing that the next round would not find again.
"""

from __future__ import annotations

import threading
import time

from autoopt.daemon.following import Following
from autoopt.daemon.notes import Notes
from autoopt.daemon.prediction import Predictions
from autoopt.daemon.runs import Runs
from autoopt.daemon.starting import Starting
from autoopt.daemon.waking import Waking
from autoopt.errors import AutooptError

_PAUSE = 0.5


class Loop:
    """Round and round, until it is told to stop.

    Args:
        waking: what it sleeps on between rounds.
        runs: the jobs that run.
        starting: the pass over the queue.
        following: what the runs write.
        predictions: ended with it.
        notes: takes what goes wrong in a round.
    """

    def __init__(
        self,
        waking: Waking,
        runs: Runs,
        starting: Starting,
        following: Following,
        predictions: Predictions,
        notes: Notes,
    ) -> None:
        self._waking, self._runs, self._starting = waking, runs, starting
        self._following, self._predictions, self._notes = following, predictions, notes
        self._ending, self._abrupt = threading.Event(), threading.Event()
        self._round = time.monotonic()
        self._thread = threading.Thread(target=self._go, name="autoopt-service", daemon=True)

    def start(self) -> None:
        """Begin to go round."""
        self._thread.start()

    def stop(self, *, abrupt: bool) -> None:
        """End what runs, then the thread.

        Args:
            abrupt: do not wait for what runs; the guards see to it.
        """
        if abrupt:
            self._abrupt.set()
        self._ending.set()
        self._waking.wake()
        self._thread.join()

    @property
    def age(self) -> float:
        """Seconds since the last round ended."""
        return time.monotonic() - self._round

    def _go(self) -> None:
        while not self._ending.is_set():
            try:
                self._waking.wait()
                self._runs.reap()
                self._runs.cancel()
                self._starting.turn(self._ending.is_set)
                self._following.tell()
            except AutooptError as error:
                self._notes.found(error.message)
            except Exception as error:  # the loop outlives whatever a round finds
                self._notes.found(f"{type(error).__name__}: {error}")
                self._ending.wait(_PAUSE)
            self._notes.end_round()
            self._round = time.monotonic()
        self._predictions.close()
        self._runs.end(self._abrupt.is_set)
