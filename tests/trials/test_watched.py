"""Trials whose GPU is watched: a simulated runner, with samples as a test wants them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from autoopt.hardware.choose import Device
from autoopt.hardware.gpu import Gpu, Process
from autoopt.hardware.monitor import Sample
from autoopt.records import Flags, Outcome, TrialResult, TrialSpec, WorkloadReport
from autoopt.trials.runner import Progress
from autoopt.trials.testing import fake_report, spec
from autoopt.trials.watched import Watched

GIB = 2**30
OURS, FOREIGN = 11, 22


@dataclass
class Eyes:
    """Sees what a test puts into `seen`."""

    seen: list[Sample] = field(default_factory=list)
    trouble: str = ""
    closed: bool = False

    def samples(self) -> list[Sample]:
        seen, self.seen = self.seen, []
        return seen

    def close(self) -> None:
        self.closed = True

    def see(self, *pids: int, used: int = 3 * GIB, uuid: str = "GPU-0") -> None:
        processes = tuple(Process(pid, "ann", GIB) for pid in pids)
        self.seen.append(Sample(uuid, time.monotonic(), used, 80 * GIB, processes))


@dataclass
class Runner:
    """Ends each trial at the next `wait`; `before` is called first, e.g. to let somebody come."""

    slots: int = 1
    before: Callable[[TrialSpec, int], None] = lambda _spec, _attempt: None
    outcomes: list[Outcome] = field(default_factory=list)
    flying: dict[int, TrialSpec] = field(default_factory=dict)
    attempts: int = 0
    closed: bool = False

    def start(self) -> WorkloadReport:
        return fake_report("fake", Flags())

    def idle(self) -> list[int]:
        return [slot for slot in range(self.slots) if slot not in self.flying]

    def submit(self, slot: int, spec: TrialSpec) -> None:
        if slot in self.flying:
            raise ValueError("busy")
        self.flying[slot] = spec

    def wait(self, timeout: float) -> list[Progress | TrialResult]:
        told: list[Progress | TrialResult] = []
        for slot, one in list(self.flying.items()):
            self.attempts += 1
            self.before(one, self.attempts)
            outcome = self.outcomes.pop(0) if self.outcomes else Outcome.COMPLETED
            del self.flying[slot]
            told += [
                Progress(slot, one.id, 1, one.steps, 1.0),
                TrialResult(
                    spec=one,
                    outcome=outcome,
                    loss=float(self.attempts) if outcome is Outcome.COMPLETED else None,
                    reserved_bytes=GIB // 2,
                    reserved_begin_bytes=GIB // 4,
                    worker=slot,
                ),
            ]
        return told

    def cancel(self) -> list[TrialResult]:
        ended = [TrialResult(spec=s, outcome=Outcome.CANCELLED) for s in self.flying.values()]
        self.flying.clear()
        return ended

    def close(self) -> None:
        self.closed = True


def device(index: int = 0, *, used: int = GIB, processes: tuple[Process, ...] = ()) -> Device:
    gpu = Gpu(index, "H100", f"GPU-{index}", 80 * GIB, used, 80 * GIB - used, processes=processes)
    return Device(f"cuda:{index}", f"cuda:{index}", "as asked", gpu)


def watched(runner: Runner, eyes: Eyes, *devices: Device) -> Watched:
    return Watched(runner, devices or [device()], eyes, lambda: {OURS})


def results(runner: Watched, *specs: TrialSpec) -> list[TrialResult]:
    for slot, one in zip(runner.idle(), specs, strict=False):
        runner.submit(slot, one)
    found: list[TrialResult] = []
    while len(found) < len(specs):
        found += [item for item in runner.wait(0.01) if isinstance(item, TrialResult)]
    return found


def test_a_trial_alone_is_told_with_what_was_seen() -> None:
    eyes = Eyes()
    runner = Runner(before=lambda *_: eyes.see(OURS))
    (found,) = results(watched(runner, eyes), spec(1, "adamw"))
    assert (found.disturbed, found.repeated, runner.attempts) == ("", "", 1)
    use = found.device_use
    assert use is not None
    assert (use.uuid, use.used, use.ours, use.context, use.others) == (
        "GPU-0",
        3 * GIB,
        GIB,
        GIB // 2,
        2 * GIB,
    )


def test_a_disturbed_trial_is_repeated_and_told_once() -> None:
    eyes = Eyes()
    runner = Runner(before=lambda _, attempt: eyes.see(OURS, *([FOREIGN] if attempt == 1 else [])))
    (found,) = results(watched(runner, eyes), spec(1, "adamw"))
    assert (runner.attempts, found.loss) == (2, 2.0)
    assert (found.disturbed, found.repeated) == ("", f"process {FOREIGN} of ann came onto it")


def test_one_that_is_disturbed_again_is_kept_and_marked() -> None:
    eyes = Eyes()
    runner = Runner(before=lambda *_: eyes.see(OURS, FOREIGN))
    (found,) = results(watched(runner, eyes), spec(1, "adamw"))
    assert runner.attempts == 2
    assert found.disturbed == found.repeated == f"process {FOREIGN} of ann came onto it"


@pytest.mark.parametrize("outcome", [Outcome.CRASHED, Outcome.CANCELLED, Outcome.OUT_OF_MEMORY])
def test_a_repeat_that_fails_leaves_the_first_result(outcome: Outcome) -> None:
    eyes = Eyes()
    runner = Runner(before=lambda *_: eyes.see(OURS, FOREIGN), outcomes=[Outcome.COMPLETED, outcome])
    (found,) = results(watched(runner, eyes), spec(1, "adamw"))
    assert (found.outcome, found.loss, runner.attempts) == (Outcome.COMPLETED, 1.0, 2)
    assert found.disturbed


def test_a_cancelled_repeat_leaves_the_first_result() -> None:
    eyes = Eyes()
    runner = Runner(before=lambda *_: eyes.see(OURS, FOREIGN))
    over = watched(runner, eyes)
    over.submit(0, spec(1, "adamw"))
    assert [item for item in over.wait(0.01) if isinstance(item, TrialResult)] == []
    assert over.idle() == []
    (found,) = over.cancel()
    assert (found.outcome, found.loss) == (Outcome.COMPLETED, 1.0)


def test_a_failure_is_marked_and_never_repeated() -> None:
    eyes = Eyes()
    runner = Runner(before=lambda *_: eyes.see(OURS, FOREIGN), outcomes=[Outcome.OUT_OF_MEMORY])
    (found,) = results(watched(runner, eyes), spec(1, "adamw"))
    assert (found.outcome, runner.attempts) == (Outcome.OUT_OF_MEMORY, 1)
    assert found.disturbed


def test_each_slot_is_judged_by_its_own_gpu() -> None:
    eyes = Eyes()

    def see(one: TrialSpec, _: int) -> None:
        eyes.see(OURS)
        eyes.see(OURS, FOREIGN, uuid="GPU-1")

    runner = Runner(slots=2, before=see)
    first, second = sorted(
        results(watched(runner, eyes, device(0), device(1)), spec(1, "adamw"), spec(2, "sgd")),
        key=lambda r: r.spec.id,
    )
    assert not first.disturbed
    assert second.disturbed


def test_who_was_there_before_us_is_a_note_and_disturbs_nobody() -> None:
    eyes = Eyes()
    runner = Runner(before=lambda *_: eyes.see(OURS, FOREIGN))
    over = watched(runner, eyes, device(processes=(Process(FOREIGN, "ann", GIB),)))
    (found,) = results(over, spec(1, "adamw"))
    assert (found.disturbed, runner.attempts) == ("", 1)
    assert over.notes == [
        f"cuda:0 was shared from the start (process {FOREIGN} of ann is on it): all times are those of a shared GPU"
    ]


def test_without_sight_trials_go_on_and_a_note_says_so() -> None:
    eyes = Eyes(trouble="the NVIDIA driver says: GPU is lost")
    over = watched(Runner(), eyes)
    (found,) = results(over, spec(1, "adamw"))
    assert (found.outcome, found.device_use, found.disturbed) == (Outcome.COMPLETED, None, "")
    (note,) = over.notes
    assert note.endswith("the NVIDIA driver says: GPU is lost")


def test_closing_closes_both() -> None:
    eyes, runner = Eyes(), Runner()
    watched(runner, eyes).close()
    assert (eyes.closed, runner.closed) == (True, True)
