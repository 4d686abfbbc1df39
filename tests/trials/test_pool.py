from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoopt.errors import AutooptError, UserCodeError, WorkerError
from autoopt.records import Flags, Outcome, TrialResult
from autoopt.trials.pool import Pool
from autoopt.trials.runner import Progress
from autoopt.trials.testing import FAILS_IF, FAKE_ENGINE, fake_loss, spec
from tests.trials.conftest import MakePool, result_of, slot_of, until


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """One pool for all trials below: each shows that those before have hurt nothing."""
    logs = tmp_path_factory.mktemp("logs")
    with Pool("fake", engine=FAKE_ENGINE, log_dir=logs, workers=2, threads=1) as pool:
        pool.start()
        yield pool


def both_idle(pool: Pool) -> None:
    until(lambda: (pool.wait(0.05), len(pool.idle()) == 2)[1])


def test_report_comes_from_the_first_worker(make_pool: MakePool) -> None:
    report = make_pool(flags=Flags(steps=77)).start()
    assert report.target == "fake"
    assert report.settings.steps == 77


def test_a_trial_reports_progress_and_ends_with_its_result(pool: Pool) -> None:
    wanted = spec(3, "adamw", lr=0.1, steps=20)
    slot = slot_of(pool)
    pool.submit(slot, wanted)
    items: list[Progress | TrialResult] = []
    while not any(isinstance(item, TrialResult) for item in items):
        items += pool.wait(0.2)
    first, last = items[0], items[-1]
    assert isinstance(first, Progress)
    assert (first.worker, first.trial, first.step, first.steps) == (slot, 3, 1, 20)
    assert isinstance(last, TrialResult)
    assert (last.outcome, last.worker, last.spec, last.steps_done) == (Outcome.COMPLETED, slot, wanted, 20)
    assert last.loss == fake_loss(wanted)


@pytest.mark.parametrize(
    ("name", "outcome", "message"),
    [
        ("segfault", Outcome.CRASHED, "killed by SIGSEGV"),
        ("sigkill", Outcome.CRASHED, "killed by SIGKILL"),
        ("exit", Outcome.EXITED, "sys.exit('enough') at "),
        ("hard-exit", Outcome.EXITED, "ended with exit code 3"),
        ("memory", Outcome.OUT_OF_MEMORY, "cannot hold 1 TiB"),
        ("error", Outcome.ERROR, "ValueError: the user's mistake"),
        ("nan", Outcome.DIVERGED, "not finite"),
        ("hang", Outcome.HUNG, "no sign of life for 0.3 s"),
        ("fork-segfault", Outcome.CRASHED, "killed by SIGSEGV"),
        ("adamw", Outcome.COMPLETED, ""),
    ],
)
def test_every_end_of_a_trial_is_an_outcome(pool: Pool, name: str, outcome: Outcome, message: str) -> None:
    wanted = spec(5, name, hang_seconds=0.3 if name == "hang" else 60)
    result = result_of(pool, wanted)
    assert result.outcome is outcome
    assert message in result.message
    assert result.spec == wanted
    assert result.steps_done > 0
    assert pool.slots == 2


@pytest.mark.parametrize("name", ["segfault", "hang"])
def test_the_message_shows_where_the_user_s_code_was(pool: Pool, name: str) -> None:
    message = result_of(pool, spec(6, name, hang_seconds=0.3)).message
    assert f"in _{name}" in message
    assert "serve.py" not in message


def test_a_trial_that_has_not_made_a_step_has_more_time(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start()
    # With a single step the fake hangs before it; the deadline is then 0.1 s times ten.
    result = result_of(pool, spec(1, "hang", steps=1, hang_seconds=0.1))
    assert result.outcome is Outcome.HUNG
    assert "no sign of life for 1 s, before its first step" in result.message
    assert result.steps_done == 0


def test_two_workers_run_at_the_same_time_and_one_death_leaves_the_other_alone(pool: Pool) -> None:
    both_idle(pool)
    pool.submit(0, spec(10, "endless", steps=10**6))
    pool.submit(1, spec(11, "endless", steps=10**6))
    seen: set[int] = set()
    while seen != {0, 1}:
        seen |= {item.worker for item in pool.wait(0.2)}
    assert pool.idle() == []
    pool.cancel()
    both_idle(pool)
    pool.submit(0, spec(12, "segfault"))
    pool.submit(1, spec(13, "endless", steps=10**6))
    until(lambda: any(isinstance(item, TrialResult) and item.worker == 0 for item in pool.wait(0.2)))
    until(lambda: (pool.wait(0.05), pool.idle() == [0])[1])
    assert [result.spec.id for result in pool.cancel()] == [13]


def test_a_dead_worker_is_replaced_by_another_process(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool()
    pool.start()
    before = pool._slots[0].process
    result_of(pool, spec(1, "memory"))
    assert result_of(pool, spec(2, "adamw")).outcome is Outcome.COMPLETED
    after = pool._slots[0].process
    assert before is not None
    assert after is not None
    assert before.pid != after.pid
    assert (tmp_path / "worker-0.log").read_text().count("the fake prints while it loads") == 2


def test_submit_to_a_busy_slot_is_refused(pool: Pool) -> None:
    slot = slot_of(pool)
    pool.submit(slot, spec(20, "endless", steps=10**6))
    with pytest.raises(ValueError, match="not idle"):
        pool.submit(slot, spec(21, "adamw"))
    pool.cancel()


def test_cancel_ends_a_trial_between_two_steps(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start()
    pool.submit(0, spec(30, "endless", steps=10**6))
    until(lambda: pool.wait(0.2))
    (result,) = pool.cancel()
    assert result.outcome is Outcome.CANCELLED
    assert result.steps_done > 0
    assert pool.idle() == [0]  # the same process, still warm
    assert pool.cancel() == []


def test_cancel_kills_a_trial_that_does_not_listen(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(grace_seconds=0.2)
    pool.start()
    pool.submit(0, spec(31, "hang"))
    until(lambda: pool.wait(0.05) is None or "hanging" in (tmp_path / "worker-0.log").read_text())
    (result,) = pool.cancel()
    assert result.outcome is Outcome.CANCELLED
    assert "killed" in result.message
    assert result_of(pool, spec(32, "adamw")).outcome is Outcome.COMPLETED


def test_cancel_hands_out_what_was_finished(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start()
    pool.submit(0, spec(33, "adamw"))
    while pool.idle() != [0]:
        pool._turn(0.05)
    assert [(result.spec.id, result.outcome) for result in pool.cancel()] == [(33, Outcome.COMPLETED)]


@pytest.mark.parametrize(
    ("target", "kind", "message"),
    [
        ("load-error", UserCodeError, "loss() raised KeyError: 'x'"),
        ("load-exit", UserCodeError, "called sys.exit(2) while it was being loaded"),
        ("load-memory", UserCodeError, "ran out of memory"),
        ("load-segfault", WorkerError, "died while it loaded: killed by SIGSEGV"),
        ("load-hang", WorkerError, "longer than 1 s"),
    ],
)
def test_a_failed_load_is_raised_with_its_class(
    make_pool: MakePool, target: str, kind: type[AutooptError], message: str
) -> None:
    pool = make_pool(target, load_seconds=1.0 if target == "load-hang" else 60.0)
    with pytest.raises(kind) as caught:
        pool.start()
    assert type(caught.value) is kind
    assert message in caught.value.message
    assert caught.value.hint
    if target == "load-error":
        assert isinstance(caught.value, UserCodeError)
        assert (caught.value.where, caught.value.trace) == ("model.py:3", "Traceback ...")


def test_when_no_worker_can_be_revived_wait_says_so(make_pool: MakePool, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    pool = make_pool(f"{FAILS_IF}{broken}")
    pool.start()
    broken.touch()
    assert result_of(pool, spec(1, "segfault")).outcome is Outcome.CRASHED
    with pytest.raises(WorkerError, match=r"No worker could be kept alive.*loss\(\) raised"):
        until(lambda: pool.wait(0.5))
    assert pool.slots == 0


def test_what_the_user_s_code_prints_goes_to_the_log_only(
    make_pool: MakePool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pool = make_pool()
    pool.start()
    assert result_of(pool, spec(1, "print")).outcome is Outcome.COMPLETED
    pool.close()
    assert capfd.readouterr() == ("", "")
    log = (tmp_path / "worker-0.log").read_text()
    assert "the user's code prints\n" in log
    assert "and writes to stderr\n" in log
    assert "the fake closes" in log


def test_a_worker_knows_that_it_is_one(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(
        "some/model.py", arguments=["--size", "3"], threads=2, environment={"CUDA_VISIBLE_DEVICES": "1"}
    )
    pool.start()
    result_of(pool, spec(1, "environment"))
    pool.close()
    log = (tmp_path / "worker-0.log").read_text()
    assert "AUTOOPT_TRIAL=1 OMP_NUM_THREADS=2 PYTHONUNBUFFERED=1 CUDA_VISIBLE_DEVICES=1 argv" in log
    assert "the user's exit handler ran" in log
    assert "argv ['some/model.py', '--size', '3']" in log


def test_workers_that_cannot_be_started_are_an_error(make_pool: MakePool, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkerError, match="could not be started"):
        make_pool(log_dir=tmp_path / "file").start()


def test_a_log_that_was_removed_hurts_nothing(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool()
    pool.start()
    (tmp_path / "worker-0.log").unlink()
    assert result_of(pool, spec(1, "segfault")).outcome is Outcome.CRASHED


@pytest.mark.parametrize("options", [{"workers": 0}, {"devices": []}])
def test_a_pool_of_nothing_is_refused(make_pool: MakePool, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        make_pool(**options)


def test_a_closed_pool_says_so(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.close()
    pool.close()
    with pytest.raises(WorkerError, match="closed"):
        pool.wait(0)


def test_the_coordinator_s_side_loads_no_torch() -> None:
    code = "import sys, autoopt.trials.pool, autoopt.trials.testing; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_slots_that_would_not_fit_are_given_up(make_pool: MakePool) -> None:
    pool = make_pool(workers=3)
    pool.start()
    pool.shrink(1)
    assert pool.slots == 1
    assert result_of(pool, spec(1, "adamw", lr=0.1, steps=3)).outcome is Outcome.COMPLETED
