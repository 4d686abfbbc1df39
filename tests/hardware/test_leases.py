from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from autoopt import hardware
from autoopt.errors import DeviceError, RunError
from autoopt.hardware.leases import INHERITED, VARIABLE, Leases, core, lease_for_run, other_holder
from tests.hardware.fake_nvml import Card
from tests.hardware.test_choose import plug


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Leases(tmp_path / "locks")


def test_a_device_has_one_holder_and_is_free_after_it(leases: Leases) -> None:
    mine = leases.take("GPU-1", "a test")
    assert mine is not None
    assert leases.take("GPU-1", "another") is None
    assert leases.holder("GPU-1") == "a test"
    mine.release()
    mine.release()
    assert leases.holder("GPU-1") is None
    again = leases.take("GPU-1", "another")
    assert again is not None
    again.release()


def test_a_lease_goes_with_its_process_however_that_dies(leases: Leases) -> None:
    code = (
        "import sys, time; from autoopt.hardware.leases import Leases\n"
        f"lease = Leases({str(leases.folder)!r}).take('GPU-1', 'a child'); print('has it', flush=True); time.sleep(1000)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "has it\n"
    assert leases.take("GPU-1", "a test") is None
    assert leases.holder("GPU-1") == "a child"
    child.kill()
    child.wait()
    child.stdout.close()
    mine = leases.take("GPU-1", "a test")
    assert mine is not None
    mine.release()


def test_a_lease_lasts_while_a_process_that_inherited_it_lives(leases: Leases) -> None:
    mine = leases.take("GPU-1", "a test")
    assert mine is not None
    child = subprocess.Popen(["sleep", "1000"], pass_fds=[mine.descriptor])
    mine.release()
    assert leases.take("GPU-1", "another") is None
    child.kill()
    child.wait()
    assert leases.holder("GPU-1") is None


def test_all_or_none(leases: Leases) -> None:
    mine = leases.take("GPU-2", "a test")
    assert mine is not None
    assert leases.take_all(["GPU-1", "GPU-2"], "another") is None
    assert leases.holder("GPU-1") is None
    mine.release()
    both = leases.take_all(["GPU-2", "GPU-1"], "another")
    assert both is not None
    for lease in both:
        lease.release()


def test_a_lock_that_somebody_tidied_away_is_made_anew(leases: Leases) -> None:
    first = leases.take("GPU-1", "a test")
    assert first is not None
    first.release()
    (leases.folder / "GPU-1.lock").unlink()
    again = leases.take("GPU-1", "a test")
    assert again is not None
    assert (leases.folder / "GPU-1.lock").exists()
    again.release()


def test_everybody_may_use_the_locks(leases: Leases) -> None:
    before = os.umask(0o077)
    try:
        mine = leases.take("GPU-1", "a test")
    finally:
        os.umask(before)
    assert mine is not None
    assert leases.folder.stat().st_mode & 0o7777 == 0o1777
    assert (leases.folder / "GPU-1.lock").stat().st_mode & 0o777 == 0o666
    mine.release()


def test_no_link_is_followed(leases: Leases, tmp_path: Path) -> None:
    leases.folder.mkdir()
    (tmp_path / "precious").write_text("precious")
    (leases.folder / "GPU-1.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match="cannot be opened"):
        leases.take("GPU-1", "a test")
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=VARIABLE):
        Leases(tmp_path / "file").take("GPU-1", "a test")


def test_a_run_takes_what_its_daemon_has_not(tmp_path: Path) -> None:
    environment = {VARIABLE: str(tmp_path / "locks"), INHERITED: "GPU-1"}
    elsewhere = Leases(environment=environment).take("GPU-1", "the daemon")
    assert elsewhere is not None
    (mine,) = lease_for_run(["GPU-1", "GPU-2"], "a run", ["cuda:0", "cuda:1"], environment)
    assert mine.device == "GPU-2"
    with pytest.raises(DeviceError, match="cuda:0 is in use by the daemon"):
        lease_for_run(["GPU-1"], "a run", ["cuda:0"], {VARIABLE: environment[VARIABLE]})
    mine.release()
    elsewhere.release()


def test_auto_passes_by_a_gpu_that_another_process_has_leased(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "2.13.0+cu130")
    plug(monkeypatch, Card("GPU-a"), Card("GPU-b"))
    environment = {VARIABLE: str(tmp_path / "locks")}
    assert hardware.devices("auto", environment)[0].name == "cuda:0"
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time; from autoopt.hardware.leases import Leases; a = Leases().take('GPU-a', 'job 1')\n"
            "print(flush=True); time.sleep(1000)",
        ],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    assert hardware.devices("auto", environment)[0].name == "cuda:1"
    assert other_holder("GPU-a", environment) == "job 1"
    assert other_holder("GPU-a", {**environment, INHERITED: "GPU-a"}) is None
    child.kill()
    child.wait()
    child.stdout.close()


def test_cores_are_each_users_own() -> None:
    assert core(3) == f"core-{os.getuid()}-3"
