"""The machine's devices as the daemon sees them. The driver is asked by a process of its own, since it may hang."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autoopt.errors import DeviceError
from autoopt.hardware.cpu import cpu_slots
from autoopt.hardware.gpu import Gpu, Process, Scan
from autoopt.hardware.leases import Leases, core

_ROOT = str(Path(__file__).resolve().parents[2])
_CODE = (
    # This very package, also where another one is installed; and nothing else from its folder.
    "import sys, typing; sys.path.insert(0, sys.argv[1]); import autoopt; del sys.path[0]; "
    "from autoopt.daemon.machine import tell; tell()"
)
_TIMEOUT = 20.0
_FRESH_SECONDS = 2.0


def tell() -> None:
    """Prints what the driver says, as JSON; the process that `ask` starts."""
    from autoopt.hardware.choose import usable

    print(json.dumps(asdict(usable())))


def ask(environment: Mapping[str, str] | None = None) -> Scan:
    """What the driver says, or that it does not answer; takes at most 20 seconds."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _CODE, _ROOT],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            env=None if environment is None else dict(environment),
            start_new_session=True,
            check=True,
        )
        told = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return Scan((), f"the NVIDIA driver does not answer within {_TIMEOUT:.0f} s")
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        return Scan((), f"the NVIDIA driver could not be asked ({error})")
    return Scan(tuple(_gpu(gpu) for gpu in told["gpus"]), told["why_none"], told["driver"])


def _gpu(told: dict[str, Any]) -> Gpu:
    return Gpu(**{**told, "processes": tuple(Process(**process) for process in told["processes"])})


class Machine:
    """The devices that the daemon may use. GPUs are looked at again every few seconds, where there are any.

    Args:
        request: "auto" (all), "cpu", "none", or GPUs: "cuda:0,cuda:2".
        look: asks the driver; for tests.
        cores: that jobs may use; those of this process unless given.

    Raises:
        DeviceError: a GPU that is not there.
    """

    def __init__(
        self, request: str = "auto", look: Callable[[], Scan] = ask, cores: list[int] | None = None
    ) -> None:
        self._look = look
        nothing = request.strip().lower() == "none"
        self.cores = [] if nothing else _cores() if cores is None else cores
        self._lock = threading.Lock()
        asks = request.strip().lower() not in ("cpu", "none")
        found = look() if asks else Scan((), "the daemon uses the CPU only")
        self._index = {gpu.uuid: index for index, gpu in enumerate(found.gpus)}
        self._allowed = self._chosen(request, found)
        self.why_none = found.why_none
        self._gpus: dict[str, Gpu] = {}
        self._at = 0.0
        self.trouble = ""
        self._busy = False
        self._take(found)

    def gpus(self) -> list[Gpu]:
        """As last seen; a look that is older than two seconds is renewed in the background."""
        with self._lock:
            if self._allowed and not self._busy and time.monotonic() - self._at > _FRESH_SECONDS:
                self._busy = True
                threading.Thread(target=self._renew, name="autoopt-gpus", daemon=True).start()
            return [self._gpus[uuid] for uuid in self._allowed if uuid in self._gpus]

    def seen_since(self, moment: float) -> bool:
        """Whether the GPUs were looked at after `moment` (`time.monotonic()`)."""
        return self._at > moment

    @property
    def uuids(self) -> list[str]:
        """Of the GPUs that the daemon uses, whether they answer now or not."""
        return list(self._allowed)

    def name(self, uuid: str) -> str:
        """What users call the GPU: cuda:0."""
        return f"cuda:{self._index[uuid]}"

    def wanted(self, device: str | None) -> list[str] | None:
        """The GPUs that a job's --device names; `None`: any one of them; empty: the CPU.

        Raises:
            DeviceError: one that the daemon does not have.
        """
        text = (device or "auto").strip().lower()
        if not self.cores:
            raise DeviceError(
                f"The daemon uses no device of its own machine, so there is no {text}: it has a cluster only.",
                "Leave --device out.",
            )
        if text == "cpu" or (text == "auto" and not self._allowed):
            return []
        if text == "auto":
            return None
        numbers = {self.name(uuid): uuid for uuid in self._allowed}
        names = ["cuda:0" if name == "cuda" else name.strip() for name in text.split(",")]
        for name in names:
            if name not in numbers:
                there = ", ".join(["cpu", *numbers]) if numbers else f"only the CPU: {self.why_none}"
                raise DeviceError(f"The daemon has no device {name}: it has {there}.", "Give one of those.")
        if len(set(names)) < len(names):
            raise DeviceError(f"--device {device} names a GPU twice.", "Name each once.")
        return [numbers[name] for name in names]

    def _chosen(self, request: str, found: Scan) -> list[str]:
        text = request.strip().lower()
        if text in ("cpu", "none"):
            return []
        if text == "auto":
            return [gpu.uuid for gpu in found.gpus]
        chosen = []
        for name in text.split(","):
            number = name.strip().removeprefix("cuda").removeprefix(":") or "0"
            if not number.isdecimal() or int(number) >= len(found.gpus):
                there = f"there are {len(found.gpus)}, from 0" if found.gpus else found.why_none
                raise DeviceError(
                    f"There is no GPU {name.strip()} to serve: {there}.",
                    "Use --devices auto, cpu, or cuda:0,cuda:1.",
                )
            chosen.append(found.gpus[int(number)].uuid)
        return list(dict.fromkeys(chosen))

    def _renew(self) -> None:
        try:
            self._take(self._look())
        finally:
            self._busy = False

    def _take(self, found: Scan) -> None:
        with self._lock:
            # Of a driver that does not answer the GPUs are neither free nor busy: they are not there.
            self._gpus = {gpu.uuid: gpu for gpu in found.gpus}
            missing = [self.name(uuid) for uuid in self._allowed if uuid not in self._gpus]
            self.trouble = f"{', '.join(missing)}: {found.why_none or 'no longer there'}" if missing else ""
            self._at = time.monotonic()


def describe(machine: Machine, leases: Leases) -> list[dict[str, Any]]:
    """{"uuid", "name", "kind", "total", "free", "leased_by", "others"} of each device; bytes, or cores of the CPU."""
    found: list[dict[str, Any]] = [
        {
            "uuid": gpu.uuid,
            "name": f"{machine.name(gpu.uuid)} ({gpu.title})",
            "kind": "cuda",
            "total": gpu.memory_total,
            "free": gpu.memory_free,
            "leased_by": leases.holder(gpu.uuid),
            "others": [
                f"process {process.pid} of {process.owner or 'an unknown user'}" for process in gpu.processes
            ],
        }
        for gpu in machine.gpus()
    ]
    if not machine.cores:
        return found
    holders = [leases.holder(core(number)) for number in machine.cores]
    busy = sorted({holder for holder in holders if holder is not None})
    cpu = {
        "uuid": "cpu",
        "name": "cpu",
        "kind": "cpu",
        "total": len(holders),
        "free": holders.count(None),
        "leased_by": ", ".join(busy) or None,
        "others": [],
    }
    return [*found, cpu]


def _cores() -> list[int]:
    import os

    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))[: cpu_slots()]
    return list(range(cpu_slots()))
