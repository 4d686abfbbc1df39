"""Nothing outlives its time: not a worker, not its keeper, not what the user's code started."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from autoopt.records import Outcome
from autoopt.trials.testing import FAKE_ENGINE, spec
from tests.trials.conftest import MakePool, result_of, slot_of, until

COORDINATOR = """
import sys
from pathlib import Path
from autoopt.trials.pool import Pool
from autoopt.trials.testing import spec
pool = Pool("fake", engine=sys.argv[1], log_dir=Path(sys.argv[2]), workers=2, threads=1)
pool.start()
while len(pool.idle()) < 2:
    pool.wait(0.1)
pool.submit(0, spec(1, sys.argv[3]))
while not pool.wait(0.1) or 0 not in pool.idle():
    pass
pool.submit(0, spec(2, "hang"))
while not pool.wait(0.1):
    pass
print(*(slot.process.pid for slot in pool._slots), flush=True)
input()
"""


def children_logged(log: Path) -> list[int]:
    return [int(found) for found in re.findall(r"^child (\d+)$", log.read_text(), re.MULTILINE)]


def gone(pids: list[int]) -> bool:
    """No such process, or a corpse that its new parent has not collected yet."""

    def dead(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return all(dead(pid) for pid in pids)


@pytest.fixture
def sweep() -> Iterator[list[int]]:
    """Processes to end should a test fail."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("leftover", "how"),
    [
        ("fork", signal.SIGKILL),
        ("child", signal.SIGKILL),
        ("daemon", signal.SIGKILL),
        ("fork", signal.SIGTERM),
    ],
)
def test_when_the_coordinator_is_killed_all_is_gone(
    tmp_path: Path, sweep: list[int], leftover: str, how: signal.Signals
) -> None:
    command = [sys.executable, "-c", COORDINATOR, FAKE_ENGINE, str(tmp_path), leftover]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as coordinator:
        assert coordinator.stdout is not None
        keepers = [int(pid) for pid in coordinator.stdout.readline().split()]
        workers = [child.pid for pid in keepers for child in psutil.Process(pid).children(recursive=True)]
        log = tmp_path / "worker-0.log"
        until(lambda: children_logged(log))
        sweep += [*keepers, *workers, *children_logged(log)]
        assert len(workers) >= 2
        assert not gone(workers)
        coordinator.send_signal(how)
        coordinator.wait()
        until(lambda: gone(sweep), seconds=5)


@pytest.mark.parametrize("leftover", ["fork", "child", "daemon"])
@pytest.mark.parametrize("end", ["close", "segfault", "hang"])
def test_what_a_worker_started_ends_with_it(
    make_pool: MakePool, tmp_path: Path, sweep: list[int], leftover: str, end: str
) -> None:
    pool = make_pool()
    pool.start()
    assert result_of(pool, spec(1, leftover)).outcome is Outcome.COMPLETED
    log = tmp_path / "worker-0.log"
    until(lambda: children_logged(log))
    sweep += children_logged(log)
    assert not gone(sweep)
    if end == "close":
        pool.close()
    else:
        result_of(pool, spec(2, end, hang_seconds=0.2))
    until(lambda: gone(sweep), seconds=5)


def test_a_forked_child_that_keeps_everything_open_does_not_hide_the_death(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start()
    assert result_of(pool, spec(1, "fork")).outcome is Outcome.COMPLETED
    result = result_of(pool, spec(2, "segfault"))
    assert result.outcome is Outcome.CRASHED
    assert result_of(pool, spec(3, "adamw")).outcome is Outcome.COMPLETED


def test_ctrl_c_and_a_signal_to_all_of_the_terminal_s_processes_reach_no_worker(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start()
    process = pool._slots[0].process
    assert process is not None
    assert os.getsid(process.pid) != os.getsid(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(process.pid, number)
    assert result_of(pool, spec(1, "adamw")).outcome is Outcome.COMPLETED
    assert pool._slots[0].process is process


def test_a_killed_keeper_takes_its_worker_along_and_both_are_replaced(
    make_pool: MakePool, sweep: list[int]
) -> None:
    pool = make_pool()
    pool.start()
    process = pool._slots[0].process
    assert process is not None
    workers = [child.pid for child in psutil.Process(process.pid).children()]
    sweep += workers
    pool.submit(slot_of(pool), spec(1, "hang"))
    until(lambda: pool.wait(0.1))
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: gone(workers), seconds=5)
    results: list[object] = []
    while not results:
        results += pool.wait(0.1)
    assert [getattr(result, "outcome", None) for result in results] == [Outcome.CRASHED]
    assert result_of(pool, spec(2, "adamw")).outcome is Outcome.COMPLETED
