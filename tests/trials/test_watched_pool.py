"""Real workers and the real watching process over a fake driver: whatever that does, trials end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from autoopt.hardware.choose import devices
from autoopt.records import Outcome, TrialResult
from autoopt.trials.pool import Pool
from autoopt.trials.runner import Runner
from autoopt.trials.testing import FAKE_ENGINE, spec
from autoopt.trials.watched import Watched, watch
from tests.hardware.conftest import Driver, driver
from tests.hardware.fake_nvml import GIB
from tests.trials.conftest import slot_of, until
from tests.trials.test_watched import device

__all__ = ["driver"]

CARD = {"uuid": "GPU-0", "total": 80 * GIB, "used": 2 * GIB, "processes": []}


@pytest.fixture
def runner(tmp_path: Path, driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    for name, value in driver.environment.items():
        monkeypatch.setenv(name, value)
    over = watch(Pool("fake", engine=FAKE_ENGINE, log_dir=tmp_path, threads=1), [device()])
    yield over
    over.close()


def ended(runner: Runner) -> TrialResult:
    found: list[TrialResult] = []
    until(lambda: found.extend(i for i in runner.wait(0.1) if isinstance(i, TrialResult)) or found)
    return found[0]


def test_somebody_who_comes_in_mid_trial_has_it_repeated(runner: Runner, driver: Driver) -> None:
    driver.says(CARD)
    assert isinstance(runner, Watched)
    slot = slot_of(runner)
    until(lambda: runner.wait(0.1) is not None and runner._cards[0].last)
    runner.submit(slot, spec(1, "endless", steps=150))
    driver.says({**CARD, "used": 9 * GIB, "processes": [[2**22 + 1, 5 * GIB]]})
    until(lambda: [runner.wait(0.1), runner._flights[1].first][1])
    driver.says(CARD)
    found = ended(runner)
    assert (found.outcome, found.disturbed) == (Outcome.COMPLETED, "")
    assert found.repeated == f"process {2**22 + 1} of an unknown user came onto it"
    assert found.device_use is not None
    assert found.device_use.samples >= 1


@pytest.mark.parametrize("state", [{"broken": "Driver Not Loaded"}, {"hangs": True}, {"lost": True}])
def test_a_driver_that_fails_harms_no_trial(runner: Runner, driver: Driver, state: dict[str, object]) -> None:
    driver.says(*([] if "lost" in state else [CARD]), **{k: v for k, v in state.items() if k != "lost"})
    runner.submit(slot_of(runner), spec(1, "adamw"))
    found = ended(runner)
    assert (found.outcome, found.disturbed, found.device_use) == (Outcome.COMPLETED, "", None)
    runner.close()
    assert not any("watcher" in " ".join(child.cmdline()) for child in psutil.Process().children())


def test_without_a_gpu_nothing_is_watched(tmp_path: Path) -> None:
    with Pool("fake", engine=FAKE_ENGINE, log_dir=tmp_path, threads=1) as pool:
        assert watch(pool, devices("cpu")) is pool
