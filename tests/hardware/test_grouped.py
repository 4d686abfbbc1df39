"""Devices for models of several processes."""

from __future__ import annotations

import pytest

from autoopt.errors import DeviceError, UsageError
from autoopt.hardware import grouped
from autoopt.hardware.choose import Device
from autoopt.hardware.gpu import Gpu, Scan


def gpus(count: int) -> list[Device]:
    return [Device(f"cuda:{i}", f"cuda:{i}", "as asked", Gpu.__new__(Gpu)) for i in range(count)]


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped, "cpu_slots", lambda: 8)


def test_each_process_has_a_gpu_of_its_own() -> None:
    chosen = gpus(5)
    found = grouped.groups_for(chosen, 2)
    assert found.devices == [chosen[:2], chosen[2:4]]
    assert found.threads == 2
    assert grouped.groups_for(chosen, 2, requested=1).devices == [chosen[:2]]


def test_cores_are_divided() -> None:
    cpu = Device("cpu", "cpu", "as asked")
    assert len(grouped.groups_for([cpu], 2).devices) == 4
    assert grouped.groups_for([cpu], 2).threads == 1
    assert grouped.groups_for([cpu], 2, requested=1).threads == 4
    assert len(grouped.groups_for([cpu], 16).devices) == 1


def test_too_few_gpus_are_told() -> None:
    with pytest.raises(DeviceError, match=r"--nproc 4 needs 4 GPUs.*there are cuda:0, cuda:1"):
        grouped.groups_for(gpus(2), 4)
    with pytest.raises(UsageError, match="--workers 2 with --nproc 2 needs 4 GPUs, and there are 3"):
        grouped.groups_for(gpus(3), 2, requested=2)


@pytest.mark.parametrize(("idle", "means"), [(3, "cuda:0,cuda:1"), (1, "cpu"), (0, "cpu")])
def test_auto_takes_as_many_idle_gpus_as_there_are_processes(
    idle: int, means: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Idle:
        uuid = "GPU-x"

        def busy(self) -> str | None:
            return None

    monkeypatch.setattr(grouped, "usable", lambda _e: Scan(tuple(Idle() for _ in range(idle)), "", None))  # type: ignore[misc]
    monkeypatch.setattr(grouped, "other_holder", lambda _u, _e: None)
    assert grouped.request_for("auto", 2) == means
    assert grouped.request_for("cuda:7", 2) == "cuda:7"
