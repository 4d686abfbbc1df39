from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from autoopt.errors import DeviceError
from autoopt.hardware import leased as room
from autoopt.hardware import leases as locks
from autoopt.hardware.leased import leased
from autoopt.hardware.leases import VARIABLE, Lease, Leases
from tests.hardware.fake_nvml import Card
from tests.hardware.test_choose import plug


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leases:
    plug(monkeypatch, Card("GPU-a"), Card("GPU-b"))
    monkeypatch.setattr(metadata, "version", lambda _name: "2.13.0")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "locks"))
    return Leases()


def quicker(monkeypatch: pytest.MonkeyPatch, taken: list[Lease]) -> None:
    """Somebody takes the first GPU between the look and the lease."""
    choose = room.devices

    def devices(request: str) -> list[room.Device]:
        found = choose(request)
        if not taken:
            lease = Leases().take("GPU-a", "somebody quick")
            assert lease is not None
            taken.append(lease)
            locks._ours.discard("GPU-a")  # it is to look like another process's
        return found

    monkeypatch.setattr(room, "devices", devices)


def test_the_device_that_is_chosen_is_the_one_that_is_leased(two_gpus: Leases) -> None:
    chosen, leases = leased("auto", "a run")
    assert [device.name for device in chosen] == ["cuda:0"]
    assert [lease.device for lease in leases] == ["GPU-a"]
    assert two_gpus.holder("GPU-a") == "a run"
    for lease in leases:
        lease.release()
    assert two_gpus.holder("GPU-a") is None


def test_auto_takes_another_where_somebody_was_quicker(
    two_gpus: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Lease] = []
    quicker(monkeypatch, taken)
    chosen, leases = leased("auto", "a run")
    assert [device.name for device in chosen] == ["cuda:1"]
    for lease in [*leases, *taken]:
        lease.release()


def test_a_gpu_that_was_named_is_waited_for_by_nobody(
    two_gpus: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Lease] = []
    quicker(monkeypatch, taken)
    with pytest.raises(DeviceError, match="somebody quick"):
        leased("cuda:0", "a run")
    taken[0].release()
