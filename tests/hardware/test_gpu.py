from __future__ import annotations

import os
from collections.abc import Callable

import psutil
import pytest

from autoopt.hardware import gpu
from tests.hardware.fake_nvml import GIB, Card, FakeNvml

Plug = Callable[..., FakeNvml]


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Plug:
    def plug_in(*cards: Card, broken: str = "") -> FakeNvml:
        fake = FakeNvml(*cards, broken=broken)
        monkeypatch.setattr(gpu, "pynvml", fake)
        return fake

    return plug_in


def cards(count: int) -> list[Card]:
    return [Card(f"GPU-{index}aaa") for index in range(count)]


def seen(**environment: str) -> list[str]:
    return [found.uuid[4] for found in gpu.scan(environment).gpus]


def test_what_the_driver_says_is_read(plug: Plug) -> None:
    fake = plug(Card("GPU-x", total=80 * GIB, used=2 * GIB, processes=[(os.getpid(), GIB)], utilization=7))
    scan = gpu.scan({})
    (found,) = scan.gpus
    assert scan.driver == "570.1"
    assert (found.title, found.uuid, found.index, found.utilization) == ("NVIDIA H100", "GPU-x", 0, 7)
    assert (found.memory_total, found.memory_used, found.memory_free) == (80 * GIB, 2 * GIB, 78 * GIB)
    assert found.processes == (gpu.Process(os.getpid(), psutil.Process().username(), GIB),)
    assert fake.open == 0


def test_no_driver_is_no_error(plug: Plug) -> None:
    plug(broken="Driver Not Loaded")
    assert gpu.scan({}) == gpu.Scan((), "no NVIDIA driver (Driver Not Loaded)")
    plug()
    assert gpu.scan({}).why_none == "the NVIDIA driver finds no GPU"


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        ("0,2", "02"),
        ("2,0", "20"),
        ("", ""),
        ("-1", ""),
        ("1,-1,0", "1"),
        ("0,9,1", "0"),
        ("0,0", ""),
        ("GPU-1aaa", "1"),
        ("GPU-2,0", "20"),
        ("GPU-", ""),
        ("NoDevFiles", ""),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_does(plug: Plug, visible: str, uuids: str) -> None:
    plug(*cards(3))
    assert seen(CUDA_VISIBLE_DEVICES=visible) == list(uuids)


def test_the_reason_names_the_variable(plug: Plug) -> None:
    plug(*cards(1))
    assert gpu.scan({"CUDA_VISIBLE_DEVICES": ""}).why_none == "CUDA_VISIBLE_DEVICES='' shows none"


@pytest.mark.parametrize(
    ("environment", "uuids"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "1,3"}, "13"),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0-1,3"}, "013"),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0-3", "SLURM_STEP_GPUS": "2"}, "2"),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "1,3", "CUDA_VISIBLE_DEVICES": "0"}, "0"),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "4-7"}, "0123"),
        ({"SLURM_JOB_ID": "7"}, ""),
        ({}, "0123"),
    ],
)
def test_slurm_is_obeyed(plug: Plug, environment: dict[str, str], uuids: str) -> None:
    """ "4-7" on a machine that shows four GPUs: Slurm fenced the others off, and these are ours."""
    plug(*cards(4))
    assert seen(**environment) == list(uuids)


def test_instances_stand_for_a_split_gpu(plug: Plug) -> None:
    parts = [Card("MIG-1", total=10 * GIB, utilization=None), None, Card("MIG-2", total=20 * GIB)]
    plug(Card("GPU-0"), Card("GPU-1", parts=parts))
    assert [(g.uuid, g.index, g.instance) for g in gpu.scan({}).gpus] == [
        ("GPU-0", 0, False),
        ("MIG-1", 1, True),
        ("MIG-2", 1, True),
    ]
    (found,) = gpu.scan({"CUDA_VISIBLE_DEVICES": "MIG-2"}).gpus
    assert found.memory_total == 20 * GIB


def test_busy_says_by_whom(plug: Plug) -> None:
    plug(
        Card("GPU-0", processes=[(os.getpid(), GIB)]),
        Card("GPU-1", processes=[(os.getpid(), GIB), (os.getppid(), GIB)]),
        Card("GPU-2", processes=[(2**22 + 1, None)]),
        Card("GPU-3", processes=None, used=40 * GIB),
        Card("GPU-4", processes=None),
    )
    busy = [found.busy() for found in gpu.scan({}).gpus]
    assert busy == [
        None,
        f"process {os.getppid()} of {psutil.Process(os.getppid()).username()} is on it",
        f"process {2**22 + 1} of an unknown user is on it",
        "50% of its memory is in use",
        None,
    ]


def test_process_bytes(plug: Plug) -> None:
    fake = plug(Card("GPU-ab", processes=[(5, 3 * GIB), (6, None)]))
    assert gpu.process_bytes("ab", 5) == 3 * GIB
    assert gpu.process_bytes("GPU-ab", 5) == 3 * GIB
    assert gpu.process_bytes("ab", 6) is None
    assert gpu.process_bytes("ab", 7) is None
    assert gpu.process_bytes("cd", 5) is None
    assert fake.open == 0
    plug(broken="Driver Not Loaded")
    assert gpu.process_bytes("ab", 5) is None
