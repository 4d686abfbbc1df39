"""The decisions of a slot that no real process can be made to cause."""

from __future__ import annotations

from typing import cast

import pytest

from autoopt.records import Outcome, TrialResult
from autoopt.trials import slot as slot_module
from autoopt.trials.process import Process
from autoopt.trials.protocol import Ended, Loaded
from autoopt.trials.slot import Slot, State
from autoopt.trials.testing import spec


class DeadProcess:
    """A process that does nothing."""

    def send(self, command: object) -> None: ...
    def mark(self) -> None: ...
    def kill(self) -> None: ...
    def reap(self, timeout: float) -> None: ...
    def tail(self) -> str:
        return ""


@pytest.fixture
def slot() -> Slot:
    slot = Slot(0, lambda: cast("Process", DeadProcess()), load_seconds=60, max_deaths=3)
    slot.revive()
    return slot


@pytest.mark.parametrize(
    ("counts", "outcome", "words"),
    [
        ((4, 5), Outcome.OUT_OF_MEMORY, "the kernel ran out of memory"),
        ((4, 4), Outcome.CRASHED, "possibly for lack of memory"),
        ((None, None), Outcome.CRASHED, "possibly for lack of memory"),
    ],
)
def test_a_kill_is_out_of_memory_when_the_kernel_says_so(
    slot: Slot,
    monkeypatch: pytest.MonkeyPatch,
    counts: tuple[int | None, int | None],
    outcome: Outcome,
    words: str,
) -> None:
    answers = list(counts)
    monkeypatch.setattr(slot_module, "oom_kills", lambda: answers.pop(0))
    slot.take(Loaded())
    slot.run(spec(1, "adamw"))
    result = slot.take(Ended(signal=9))
    assert isinstance(result, TrialResult)
    assert result.outcome is outcome
    assert words in result.message
    assert slot.state is State.DOWN


def test_a_process_that_dies_between_trials_again_and_again_is_given_up(slot: Slot) -> None:
    for _ in range(3):
        assert slot.state is State.LOADING
        slot.take(Loaded())
        assert slot.take(Ended(signal=11)) is None
        slot.revive()
    assert slot.state is State.LOST
    assert slot.error is not None
    assert "between trials: killed by SIGSEGV" in slot.error.message


def test_deaths_in_trials_are_no_reason_to_give_up(slot: Slot) -> None:
    for number in range(10):
        slot.take(Loaded())
        slot.run(spec(number, "adamw"))
        slot.take(Ended(signal=11))
        slot.revive()
    assert slot.state is State.LOADING
