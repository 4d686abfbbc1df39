"""The process that watches, with a driver whose state is a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from autoopt.hardware import monitor
from autoopt.hardware.gpu import Process
from autoopt.hardware.monitor import Monitor, Sample
from tests.hardware.conftest import Driver
from tests.hardware.fake_nvml import GIB
from tests.trials.conftest import until

CARD = {"uuid": "GPU-a", "total": 80 * GIB, "used": GIB, "processes": []}
Watch = Callable[..., Monitor]


@pytest.fixture
def watch(driver: Driver) -> Iterator[Watch]:
    made: list[Monitor] = []

    def start(*uuids: str) -> Monitor:
        made.append(Monitor(uuids or ["GPU-a"], 0.02, driver.environment))
        return made[-1]

    yield start
    for one in made:
        one.close()


def first(eyes: Monitor, wanted: Callable[[Sample], bool] = lambda _: True) -> Sample:
    found: list[Sample] = []
    until(lambda: found.extend(s for s in eyes.samples() if wanted(s)) or found)
    return found[0]


def test_a_sample_is_what_the_driver_says(driver: Driver, watch: Watch) -> None:
    driver.says({**CARD, "processes": [(2**22 + 1, 3 * GIB), (os.getpid(), None)]})
    before = time.monotonic()
    seen = first(watch())
    assert (seen.uuid, seen.used, seen.total) == ("GPU-a", GIB, 80 * GIB)
    assert before < seen.at < time.monotonic()
    me = psutil.Process().username()
    assert seen.processes == (Process(2**22 + 1, None, 3 * GIB), Process(os.getpid(), me, None))


def test_each_device_is_seen_and_what_changes_too(driver: Driver, watch: Watch) -> None:
    part = {"uuid": "MIG-b", "total": 10 * GIB, "used": 0, "processes": None}
    driver.says(CARD, part)
    eyes = watch("GPU-a", "MIG-b")
    assert first(eyes, lambda s: s.uuid == "MIG-b").processes is None
    driver.says({**CARD, "used": 7 * GIB}, part)
    assert first(eyes, lambda s: s.used == 7 * GIB).uuid == "GPU-a"


def test_no_driver_and_a_lost_device_are_told_and_mended(driver: Driver, watch: Watch) -> None:
    driver.says(broken="Driver Not Loaded")
    eyes = watch()
    until(lambda: [eyes.samples(), eyes.trouble][1])
    assert eyes.trouble == "the NVIDIA driver says: Driver Not Loaded"
    driver.says(CARD)
    first(eyes)
    assert eyes.trouble == ""
    driver.says()
    until(lambda: [eyes.samples(), eyes.trouble][1])
    assert eyes.trouble == "the NVIDIA driver says: Not Found"


def test_a_driver_that_hangs_holds_nobody_up(
    driver: Driver, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.says(CARD)
    eyes = watch()
    first(eyes)
    monkeypatch.setattr(monitor, "_SILENT_SECONDS", 0.2)
    driver.says(CARD, hangs=True)
    until(lambda: eyes.samples() == [] and eyes.trouble)
    assert "has not answered" in eyes.trouble
    begin = time.monotonic()
    assert eyes.samples() == []
    eyes.close()
    assert time.monotonic() - begin < 1
    assert not psutil.pid_exists(eyes.pid)


def test_the_end_of_the_watching_process_is_told(watch: Watch) -> None:
    eyes = watch()
    os.kill(eyes.pid, signal.SIGKILL)
    until(lambda: eyes.trouble)
    assert "ended with exit code -9" in eyes.trouble
    assert eyes.samples() == []
    eyes.close()
    eyes.close()
    assert eyes.trouble == ""


@pytest.mark.parametrize("hangs", [False, True])
def test_it_dies_with_a_parent_that_was_killed(driver: Driver, hangs: bool) -> None:
    driver.says(CARD, hangs=hangs)
    code = (
        "import time; from autoopt.hardware.monitor import Monitor;"
        "m = Monitor(['GPU-a'], 0.02); print(m.pid, flush=True); time.sleep(3600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, **driver.environment}
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 10)
