from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

import pytest

from autoopt import hardware
from autoopt.errors import DeviceError, UsageError
from autoopt.hardware import choose, gpu
from tests.hardware.fake_nvml import GIB, Card, FakeNvml

OTHERS = [(1, GIB)]


@pytest.fixture(autouse=True)
def cuda_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "2.13.0")


def plug(monkeypatch: pytest.MonkeyPatch, *cards: Card) -> None:
    monkeypatch.setattr(gpu, "pynvml", FakeNvml(*cards))


def names(request: str, **environment: str) -> list[str]:
    return [device.name for device in hardware.devices(request, environment)]


def test_auto_takes_the_first_idle_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, Card("GPU-a", processes=OTHERS), Card("GPU-b"), Card("GPU-c"))
    (device,) = hardware.devices("auto", {})
    assert (device.name, device.worker_name, device.kind) == ("cuda:1", "cuda:0", "cuda")
    assert device.reason == "NVIDIA H100 is idle"
    assert device.memory_free == 79 * GIB
    assert hardware.worker_environment([device]) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "GPU-b",
    }


def test_auto_takes_the_cpu_when_all_are_busy_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, Card("GPU-a", processes=OTHERS), Card("GPU-b", used=40 * GIB))
    (device,) = hardware.devices("auto", {})
    assert (device.name, device.kind) == ("cpu", "cpu")
    assert device.reason.startswith("cuda:0 is busy (process 1 of ")
    assert device.reason.endswith("; cuda:1 is busy (50% of its memory is in use)")
    assert hardware.worker_environment([device])["CUDA_VISIBLE_DEVICES"] == ""


def test_a_torch_without_cuda_uses_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, Card("GPU-a"))
    monkeypatch.setattr(metadata, "version", lambda name: "2.13.0+cpu")
    (device,) = hardware.devices("auto", {})
    assert device.reason == "torch 2.13.0+cpu is built for the CPU only"
    with pytest.raises(DeviceError, match="built for the CPU only"):
        hardware.devices("cuda:0", {})


def test_what_is_asked_for_is_taken_busy_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, Card("GPU-a", processes=OTHERS), Card("GPU-b"), Card("GPU-c"))
    assert names("cuda") == ["cuda:0"]
    assert names("CUDA:2, cuda:0") == ["cuda:2", "cuda:0"]
    assert names("cuda:0,1") == ["cuda:0", "cuda:1"]
    assert names("cpu") == ["cpu"]
    chosen = hardware.devices("cuda:2,cuda:0", {})
    assert [device.worker_name for device in chosen] == ["cuda:0", "cuda:1"]
    assert hardware.worker_environment(chosen)["CUDA_VISIBLE_DEVICES"] == "GPU-c,GPU-a"


def test_numbers_are_those_that_torch_would_see(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, Card("GPU-a"), Card("GPU-b"), Card("GPU-c"))
    (device,) = hardware.devices("cuda:1", {"CUDA_VISIBLE_DEVICES": "0,2"})
    assert device.gpu is not None
    assert device.gpu.uuid == "GPU-c"


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ("cuda:2", r"no GPU cuda:2 to use: there are 2"),
        ("tpu", "'tpu' is not a device"),
        ("cuda:", "is not a device"),
        ("", "is not a device"),
        ("cpu,cuda:0", "is not a device"),
        ("cuda:0,cuda:0", "names a GPU twice"),
    ],
)
def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch, request_: str, says: str) -> None:
    plug(monkeypatch, Card("GPU-a"), Card("GPU-b"))
    with pytest.raises(DeviceError, match=says) as caught:
        hardware.devices(request_, {})
    assert caught.value.hint


def machine(monkeypatch: pytest.MonkeyPatch, cores: int, memory: int) -> None:
    monkeypatch.setattr(choose, "cpu_slots", lambda: cores)
    monkeypatch.setattr(choose, "available_memory", lambda: memory)


@pytest.mark.parametrize(
    ("cores", "memory", "requested", "size", "workers", "threads"),
    [
        (8, 100 * GIB, None, GIB, 8, 1),
        (8, 100 * GIB, 2, GIB, 2, 4),
        (8, 100 * GIB, 3, GIB, 3, 2),
        (8, 10 * GIB, None, 2 * GIB, 4, 2),
        (8, 10 * GIB, None, 0, 8, 1),
        (8, GIB, None, 2 * GIB, 1, 8),
        (2, 100 * GIB, 4, GIB, 4, 1),
    ],
)
def test_workers_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    memory: int,
    requested: int | None,
    size: int,
    workers: int,
    threads: int,
) -> None:
    machine(monkeypatch, cores, memory)
    assert hardware.workers_for(hardware.devices("cpu"), requested, size) == (workers, threads)


def test_workers_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, Card("GPU-a"), Card("GPU-b"))
    machine(monkeypatch, 8, 100 * GIB)
    chosen = hardware.devices("cuda:0,cuda:1", {})
    assert hardware.workers_for(chosen, None, 10 * GIB) == (2, 4)
    assert hardware.workers_for(chosen, 4, 10 * GIB) == (4, 2)


def test_a_number_of_workers_is_kept_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 8, 10 * GIB)
    with pytest.raises(UsageError, match=r"needs 12\.0 GiB, and 10\.0 GiB are free") as caught:
        hardware.workers_for(hardware.devices("cpu"), 6, 2 * GIB)
    assert "--workers 4" in caught.value.hint
    with pytest.raises(UsageError, match="leaves nobody"):
        hardware.workers_for(hardware.devices("cpu"), 0)


def test_describe_is_plain_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    plug(monkeypatch, Card("GPU-a"))
    machine = json.loads(json.dumps(hardware.describe(), allow_nan=False))
    assert machine["gpus"] == [{"name": "NVIDIA H100", "memory": 80 * GIB}]
    assert machine["driver"] == "570.1"
    assert machine["cores"] >= 1
    assert machine["cpu"]


def test_the_real_machine_without_torch() -> None:
    code = "import sys, autoopt.hardware as h; h.devices(); h.describe(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
