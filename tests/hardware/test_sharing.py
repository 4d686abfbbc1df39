from __future__ import annotations

from autoopt.hardware.gpu import Process
from autoopt.hardware.monitor import Sample
from autoopt.hardware.sharing import Judged, Quiet, judge
from tests.hardware.fake_nvml import GIB

MIB = 2**20
OURS, FOREIGN, OLD = 10, 20, 30
START = Quiet(others=GIB, strangers=frozenset({OLD}))


def sample(used: int, *processes: tuple[int, int | None], told: bool = True) -> Sample:
    listed = tuple(Process(pid, "ann", size) for pid, size in processes)
    return Sample("GPU-a", 0.0, used, 80 * GIB, listed if told else None)


def hidden(used: int) -> Sample:
    return sample(used, told=False)


def judged(
    before: Sample,
    *during: Sample,
    quiet: Quiet = START,
    ours: frozenset[int] = frozenset({OURS}),
    reserved: int | None = 2 * GIB,
    begin: int | None = GIB,
    alone: bool = True,
) -> Judged:
    return judge(quiet, before, during, ours, reserved=reserved, reserved_begin=begin, alone=alone)


def test_process_ids_tell_ours_the_context_and_who_came() -> None:
    before = sample(3 * GIB, (OURS, int(1.5 * GIB)), (OLD, 500 * MIB))
    quietly = judged(before, sample(4 * GIB, (OURS, int(2.5 * GIB)), (OLD, 500 * MIB)))
    assert (quietly.used, quietly.ours, quietly.context) == (4 * GIB, int(2.5 * GIB), GIB // 2)
    assert quietly.disturbed == ""
    came = judged(before, sample(9 * GIB, (OURS, int(2.5 * GIB)), (FOREIGN, 5 * GIB)), before)
    assert came.disturbed == f"process {FOREIGN} of ann came onto it"
    assert came.ours == int(2.5 * GIB)


def test_a_stranger_that_stays_disturbs_the_next_trial_too() -> None:
    both = sample(9 * GIB, (OURS, 2 * GIB), (FOREIGN, 5 * GIB))
    assert judged(both, both).disturbed
    assert not judged(sample(3 * GIB, (OURS, 2 * GIB)), sample(4 * GIB, (OURS, 3 * GIB))).disturbed


def test_bytes_that_the_driver_does_not_tell_are_unknown_not_zero() -> None:
    found = judged(sample(3 * GIB, (OURS, None)), sample(4 * GIB, (OURS, None)))
    assert (found.ours, found.context, found.disturbed) == (None, None, "")


def test_in_a_container_memory_tells() -> None:
    """1 GiB was in use before us; our context takes 0.5 GiB, our allocator 1 GiB at the start and at most 2 GiB."""
    before = hidden(int(2.5 * GIB))
    quietly = judged(before, hidden(int(3.6 * GIB)))
    assert quietly.disturbed == ""
    assert (quietly.context, quietly.ours) == (GIB // 2, int(2.5 * GIB))
    came = judged(before, hidden(int(4.5 * GIB)), hidden(int(2.5 * GIB)), quiet=quietly.quiet)
    assert came.disturbed == "another process took 1.0 GiB of its memory"
    stays = judged(hidden(int(3.5 * GIB)), hidden(int(4.5 * GIB)), quiet=came.quiet)
    assert stays.disturbed
    gone = judged(before, hidden(int(3.5 * GIB)), quiet=stays.quiet)
    assert (gone.disturbed, gone.context) == ("", GIB // 2)


def test_ids_of_the_host_s_name_spaces_tell_who_is_new() -> None:
    worker, other = (4001, 2 * GIB), (4002, GIB)
    before = sample(int(2.5 * GIB), worker)
    quietly = judged(before, sample(int(3.5 * GIB), worker))
    assert (quietly.disturbed, quietly.context) == ("", GIB // 2)
    came = judged(before, sample(int(4.5 * GIB), worker, other), quiet=quietly.quiet)
    assert came.disturbed == "process 4002 of ann came onto it"
    stays = sample(int(3.5 * GIB), worker, other)
    assert judged(stays, stays, quiet=came.quiet).disturbed
    # A worker that was started anew has another id, and was there before its trial.
    anew = sample(int(2.5 * GIB), (4003, 2 * GIB))
    assert not judged(anew, anew, quiet=came.quiet).disturbed


def test_trials_that_share_a_gpu_are_judged_by_ids_alone() -> None:
    before = hidden(int(2.5 * GIB))
    assert judged(before, hidden(9 * GIB), alone=False).disturbed == ""
    assert judged(before, hidden(9 * GIB), alone=False).ours is None
    seen = sample(9 * GIB, (OURS, GIB), (FOREIGN, GIB))
    assert judged(before, seen, alone=False).disturbed


def test_without_an_allocator_nothing_is_guessed() -> None:
    found = judged(hidden(3 * GIB), hidden(9 * GIB), reserved=None, begin=None)
    assert (found.used, found.ours, found.context, found.disturbed) == (9 * GIB, None, None, "")
