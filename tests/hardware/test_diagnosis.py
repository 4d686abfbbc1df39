"""What the doctor finds, with a driver whose state is a file and a torch that says what a test wants."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

import pytest

from autoopt.hardware import diagnosis
from autoopt.hardware.diagnosis import Finding, able, examine
from tests.hardware.conftest import Driver
from tests.hardware.fake_nvml import GIB

CARD = {"uuid": "GPU-a", "total": 80 * GIB, "used": GIB, "processes": []}
CUDA: dict[str, Any] = {"version": "2.11.0", "cuda": "12.6", "hip": None, "devices": ["H100"], "error": ""}
Doctor = Callable[..., dict[str, Finding]]


@pytest.fixture
def doctor(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    def look(torch: dict[str, Any] | str = CUDA, **environment: str) -> dict[str, Finding]:
        code = torch if isinstance(torch, str) else f"print({json.dumps({'warnings': [], **torch})!r})"
        monkeypatch.setattr(diagnosis, "_ASK_TORCH", code)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CUDA_", "SLURM_"))}
        found = examine({**kept, **driver.environment, **environment})
        return {f"{finding.section}/{finding.name}": finding for finding in found}

    return look


def test_a_gpu_that_is_free_and_computes_needs_no_mending(driver: Driver, doctor: Doctor) -> None:
    driver.says(CARD)
    found = doctor()
    assert found["GPUs/driver"].value == "NVIDIA 570.1"
    assert found["GPUs/cuda:0"] == Finding(
        "GPUs", "cuda:0", "NVIDIA H100, GPU-a: 79.0 GiB of 80.0 GiB free; no process on it"
    )
    assert found["torch/cuda:0"].value == "H100 computes"
    assert able(list(found.values()))


def test_who_is_on_a_gpu_is_named_and_how_to_use_it_all_the_same(driver: Driver, doctor: Doctor) -> None:
    busy = {**CARD, "processes": [[2**22 + 1, 3 * GIB]]}
    hidden = {**CARD, "uuid": "GPU-b", "used": 40 * GIB, "processes": None}
    driver.says(busy, hidden)
    found = doctor()
    assert f"on it: process {2**22 + 1} of an unknown user with 3.0 GiB" in found["GPUs/cuda:0"].value
    assert "--device cuda:0 uses it all the same" in found["GPUs/cuda:0"].mend
    assert "who is on it is not told" in found["GPUs/cuda:1"].value
    assert "50% of its memory is in use" in found["GPUs/cuda:1"].mend


def test_instances_and_the_variable_that_chooses(driver: Driver, doctor: Doctor) -> None:
    parts = [{**CARD, "uuid": "MIG-1", "total": 10 * GIB}, None, {**CARD, "uuid": "MIG-2", "total": 20 * GIB}]
    driver.says({**CARD, "parts": parts})
    found = doctor(CUDA_VISIBLE_DEVICES="MIG-2")
    assert "an instance (MIG), MIG-2: 19.0 GiB of 20.0 GiB free" in found["GPUs/cuda:0"].value
    assert "MIG-1" in found["GPUs/hidden"].value
    assert found["environment/CUDA_VISIBLE_DEVICES"].value == "'MIG-2'"


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES='' shows none"),
        ({"SLURM_JOB_ID": "7"}, "Slurm granted this job no GPU"),
    ],
)
def test_gpus_that_are_hidden_are_told_with_the_way_to_them(
    driver: Driver, doctor: Doctor, environment: dict[str, str], why: str
) -> None:
    driver.says(CARD)
    found = doctor({**CUDA, "devices": []}, **environment)
    assert found["GPUs/usable"].value == why
    assert "Unset CUDA_VISIBLE_DEVICES" in found["GPUs/usable"].mend
    assert "torch/GPU" not in found  # that torch sees none is no fault of the driver's then


def test_no_driver_is_no_fault(driver: Driver, doctor: Doctor) -> None:
    driver.says(broken="Driver Not Loaded")
    found = doctor({**CUDA, "cuda": None, "devices": []})
    assert (found["GPUs/driver"].state, found["GPUs/driver"].value) == (
        "ok",
        "no NVIDIA driver (Driver Not Loaded)",
    )
    assert found["torch/build"].state == "ok"


def test_a_driver_that_is_broken_or_hangs_is_told(
    driver: Driver, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.says(broken="Driver/library version mismatch")
    found = doctor({**CUDA, "devices": []})["GPUs/driver"]
    assert found.state == "note"
    assert "Reboot" in found.mend
    monkeypatch.setattr(diagnosis, "_DRIVER_SECONDS", 1.0)
    driver.says(CARD, hangs=True)
    found = doctor({**CUDA, "devices": []})["GPUs/driver"]
    assert (found.state, found.value) == ("note", "no answer in 1 s")
    assert "--device cpu" in found.mend


@pytest.mark.parametrize(
    ("torch", "name", "mend"),
    [
        ({**CUDA, "cuda": None, "devices": []}, "torch/build", "pip install --force-reinstall torch"),
        ({**CUDA, "devices": []}, "torch/GPU", "Driver 570.1 may be too old for CUDA 12.6"),
        ({**CUDA, "error": "RuntimeError: no kernel image"}, "torch/GPU", "pytorch.org/get-started"),
    ],
)
def test_a_torch_that_cannot_use_the_gpu_says_how_to_mend_it(
    driver: Driver, doctor: Doctor, torch: dict[str, Any], name: str, mend: str
) -> None:
    driver.says(CARD)
    found = doctor(torch)
    assert found[name].state == "note"
    assert mend in found[name].mend
    assert able(list(found.values()))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ImportError('libtorch is missing')", "ImportError: libtorch is missing"),
        ("import os; os.abort()", "ended with exit code -6"),
        ("import time; time.sleep(60)", "no answer in 0 s"),
    ],
)
def test_a_torch_that_does_not_start_is_broken(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    if "sleep" in code:
        monkeypatch.setattr(diagnosis, "_TORCH_SECONDS", 0.3)
    found = doctor(code)
    assert (found["torch/import"].state, found["torch/import"].value) == ("broken", said)
    assert not able(list(found.values()))


def test_packages_that_are_missing_or_old_come_with_their_pip_line(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name in ("filelock", "prodigyopt"):
            raise metadata.PackageNotFoundError(name)
        return "4.1.0" if name == "optuna" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(
        metadata, "requires", lambda _: ["optuna>=4.2", "filelock>=3.15", 'x>=1; extra == "y"']
    )
    monkeypatch.setattr("autoopt.optim.registry.find_spec", lambda _: None)
    monkeypatch.delitem(sys.modules, "prodigyopt", raising=False)  # another test may have imported it
    found = doctor()
    assert found["versions/optuna"].value == "4.1.0, older than 4.2"
    assert found["versions/optuna"].mend == "pip install --upgrade 'optuna>=4.2'"
    assert (found["versions/filelock"].state, found["versions/filelock"].mend) == (
        "broken",
        "pip install 'filelock>=3.15'",
    )
    assert found["optimizers/prodigy"].mend.startswith("pip install 'prodigyopt")
    assert found["optimizers/prodigy"].state == "note"


def test_limits_and_places_that_cannot_be_written_are_notes(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4 * GIB, 4 * GIB))
    monkeypatch.setattr(diagnosis, "available_memory", lambda: GIB // 2)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("CC", "no-such-compiler")
    found = doctor()
    assert found["machine/address space"].value == "limited to 4.0 GiB (ulimit -v)"
    assert found["machine/memory"].state == "note"
    assert found["disk/compiled kernels"].mend.startswith("Point AUTOOPT_CACHE")
    assert found["compiler/C"].state == "note"
    assert able(list(found.values()))
