"""What `autoopt doctor` tells: what is there, who uses it, what is missing and how to mend it. Imports no torch.

Whatever may hang or crash (the driver, torch with a wrong driver) is asked in a process of its own, with a time limit.
"""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import psutil

from autoopt import __version__
from autoopt.hardware.cpu import available_memory, cpu_model, cpu_slots, total_memory
from autoopt.hardware.gpu import Gpu, Process, Scan
from autoopt.optim import registry
from autoopt.optim.compiled.compiler import CompilerError, cache, compiler

State = Literal["ok", "note", "broken"]
_TORCH_SECONDS = 120.0
"""The first import of torch from a slow disk takes its time."""
_DRIVER_SECONDS = 20.0
_GIB = 2**30
_LITTLE_MEMORY, _LITTLE_DISK = _GIB, _GIB // 4
_ROOT = str(Path(__file__).resolve().parents[2])
_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "PYTORCH_CUDA_ALLOC_CONF",
    "OMP_NUM_THREADS",
    "SLURM_JOB_ID",
    "SLURM_JOB_GPUS",
    "SLURM_STEP_GPUS",
    "SLURM_CPUS_PER_TASK",
    "SLURM_MEM_PER_NODE",
    "AUTOOPT_CACHE",
    "CC",
)
_ASK_DRIVER = (
    "import json, sys; sys.path.append(sys.argv[1]); from dataclasses import asdict;"
    "from autoopt.hardware.gpu import scan; print(json.dumps([asdict(scan({})), asdict(scan())]))"
)
_ASK_TORCH = """
import json, warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import torch
    torch.ones(8).sum().item()
    told = {"version": torch.__version__, "cuda": torch.version.cuda, "hip": torch.version.hip, "devices": [], "error": ""}
    try:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        for index in range(count):
            torch.ones(8, device=f"cuda:{index}").sum().item()
            told["devices"].append(torch.cuda.get_device_name(index))
    except Exception as error:
        told["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
told["warnings"] = [str(one.message).splitlines()[0] for one in said if "CUDA" in str(one.message)]
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Finding:
    """Something that was looked at.

    Args:
        section: what it belongs to.
        name: of the thing.
        value: what was found, in words.
        state: "ok"; "note": autoopt runs, with less; "broken": it cannot run.
        mend: what to do about it; empty where nothing is to be done.
    """

    section: str
    name: str
    value: str
    state: State = "ok"
    mend: str = ""

    def as_dict(self) -> dict[str, str]:
        """As plain data."""
        return asdict(self)


def able(findings: list[Finding]) -> bool:
    """Whether autoopt can run here."""
    return all(finding.state != "broken" for finding in findings)


def examine(environment: Mapping[str, str] | None = None) -> list[Finding]:
    """Looks at everything; takes as long as importing torch does.

    Args:
        environment: environment variables, also of the processes that are asked; None: this process's.
    """
    variables = dict(os.environ if environment is None else environment)
    told, trouble = _ask([_ASK_DRIVER, _ROOT], variables, _DRIVER_SECONDS)
    listed, usable = (_scan(told[0]), _scan(told[1])) if told else (Scan(()), Scan((), trouble))
    return [
        *_versions(),
        *_machine(),
        *_gpus(listed, usable, trouble),
        *_torch(listed, usable, variables),
        *_optimizers(),
        *_surroundings(variables),
        *_disk(),
        *_kernels(),
    ]


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "autoopt", __version__)
    yield Finding("versions", "python", f"{platform.python_version()} ({sys.executable})")
    for name, least in _required():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding("versions", name, "not installed", "broken", f"pip install '{name}>={least}'")
            continue
        if _numbers(version) < _numbers(least):
            mend = f"pip install --upgrade '{name}>={least}'"
            yield Finding("versions", name, f"{version}, older than {least}", "broken", mend)
        else:
            yield Finding("versions", name, version)


def _required() -> list[tuple[str, str]]:
    """(distribution, least version) of what autoopt needs, from its own metadata."""
    try:
        lines = metadata.requires("autoopt") or []
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        lines = ["torch>=2.6"]
    found = []
    for line in lines:
        match = re.match(r"([A-Za-z0-9_.-]+)[^;]*>=([\d.]+)", line)
        if match is not None and "extra ==" not in line:
            found.append((match[1], match[2]))
    return found


def _machine() -> Iterator[Finding]:
    yield Finding(
        "machine", "system", f"{platform.system()} {platform.release()} {platform.machine()}, {cpu_model()}"
    )
    cores, there = cpu_slots(), os.cpu_count() or 1
    limited = "" if cores == there else f" of {there}: affinity, a control group or Slurm allows no more"
    yield Finding("machine", "cores", f"{cores}{limited}")
    free, total = available_memory(), total_memory()
    machine = int(psutil.virtual_memory().total)
    limited = "" if total == machine else f" (a control group's limit; the machine has {_size(machine)})"
    little = free < _LITTLE_MEMORY
    yield Finding(
        "machine",
        "memory",
        f"{_size(free)} of {_size(total)} available{limited}",
        "note" if little else "ok",
        "Close other programs, or give the container or job more memory." if little else "",
    )
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        yield Finding(
            "machine",
            "address space",
            f"limited to {_size(soft)} (ulimit -v)",
            "note",
            "`ulimit -v unlimited`: CUDA and torch reserve far more addresses than memory.",
        )


def _gpus(listed: Scan, usable: Scan, trouble: str) -> Iterator[Finding]:
    if trouble:
        mend = "`nvidia-smi` should answer too; if it hangs, the driver needs a restart. Until then: --device cpu."
        yield Finding("GPUs", "driver", trouble, "note", mend)
        return
    if listed.driver is None and not any(word in listed.why_none for word in ("Not Found", "Not Loaded")):
        mend = "Reboot, or have the kernel's module reloaded; `nvidia-smi` says the same. Until then: --device cpu."
        yield Finding("GPUs", "driver", listed.why_none, "note", mend)
        return
    if listed.driver is None:
        mend = "Nothing to do on a machine without an NVIDIA GPU; else install its driver." + (
            " In a container, start it with the GPUs (docker run --gpus all)." if _contained() else ""
        )
        yield Finding("GPUs", "driver", listed.why_none, mend=mend)
        return
    yield Finding("GPUs", "driver", f"NVIDIA {listed.driver}")
    if not listed.gpus:
        yield Finding("GPUs", "GPUs", listed.why_none, "note", "`nvidia-smi -L` lists what the driver sees.")
    for gpu in listed.gpus:
        place = next((i for i, one in enumerate(usable.gpus) if one.uuid == gpu.uuid), None)
        name = "hidden" if place is None else f"cuda:{place}"
        instance = ", an instance (MIG)" if gpu.instance else ""
        busy = gpu.busy()
        yield Finding(
            "GPUs",
            name,
            f"{gpu.title}{instance}, {gpu.uuid}: {_size(gpu.memory_free)} of {_size(gpu.memory_total)} free; "
            f"{_users(gpu)}",
            "note" if busy and place is not None else "ok",
            f"--device auto passes it over: {busy}. --device {name} uses it all the same."
            if busy and place is not None
            else "",
        )
    if listed.gpus and not usable.gpus:
        mend = "Unset CUDA_VISIBLE_DEVICES, or ask Slurm for a GPU (--gpus 1), to train on them."
        yield Finding("GPUs", "usable", usable.why_none, "note", mend)


def _users(gpu: Gpu) -> str:
    if not gpu.processes:
        used = gpu.memory_used / gpu.memory_total if gpu.memory_total else 0.0
        return (
            "no process on it" if used < 0.05 else "who is on it is not told (a container, or another user)"
        )
    return "on it: " + ", ".join(
        f"process {p.pid} of {p.owner or 'an unknown user'}"
        + ("" if p.memory_bytes is None else f" with {_size(p.memory_bytes)}")
        for p in gpu.processes
    )


def _torch(listed: Scan, usable: Scan, variables: Mapping[str, str]) -> Iterator[Finding]:
    told, trouble = _ask([_ASK_TORCH], variables, _TORCH_SECONDS)
    if told is None:
        mend = "pip install --force-reinstall torch; `python -c 'import torch'` shows the whole error."
        yield Finding("torch", "import", trouble, "broken", mend)
        return
    built = (
        f"CUDA {told['cuda']}" if told["cuda"] else f"ROCm {told['hip']}" if told["hip"] else "the CPU only"
    )
    cpu_only = not told["cuda"] and not told["hip"] and bool(listed.gpus)
    yield Finding(
        "torch",
        "build",
        f"{told['version']}, built for {built}; computes on the CPU",
        "note" if cpu_only else "ok",
        "There is a GPU that this torch cannot use: `pip install --force-reinstall torch` (PyPI's wheels for Linux are "
        "built for CUDA), or the command of pytorch.org/get-started for an older driver."
        if cpu_only
        else "",
    )
    for index, name in enumerate(told["devices"]):
        yield Finding("torch", f"cuda:{index}", f"{name} computes")
    if told["cuda"] and (told["error"] or (usable.gpus and not told["devices"])):
        why = told["error"] or next(iter(told["warnings"]), "torch finds no GPU where the driver shows one")
        mend = (
            f"Driver {usable.driver or listed.driver} may be too old for CUDA {told['cuda']}: update it, or install a torch "
            "for an older CUDA (pytorch.org/get-started). Until then: --device cpu."
        )
        yield Finding("torch", "GPU", why, "note", mend)


def _optimizers() -> Iterator[Finding]:
    specs = [registry.get(name) for name in registry.names()]
    missing: dict[str, list[str]] = {}
    for spec in specs:
        if registry.why_unavailable(spec) is not None:
            missing.setdefault(spec.package, []).append(spec.name)
    yield Finding("optimizers", "usable", f"{len(specs) - sum(map(len, missing.values()))} of {len(specs)}")
    for package, names in sorted(missing.items()):
        yield Finding(
            "optimizers", ", ".join(names), f"not here: {package}", "note", f"pip install '{package}'"
        )


def _surroundings(variables: Mapping[str, str]) -> Iterator[Finding]:
    for name in _VARIABLES:
        if name in variables:
            yield Finding("environment", name, repr(variables[name]))


def _disk() -> Iterator[Finding]:
    for name, folder, mend in (
        ("here", Path.cwd(), "Choose another folder for the run: --out DIR."),
        ("temporary files", Path(tempfile.gettempdir()), "Point TMPDIR to a folder with room."),
        ("compiled kernels", cache(), "Point AUTOOPT_CACHE to a folder that you may write to."),
    ):
        there = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(there).free
        writable = os.access(there, os.W_OK)
        value = f"{folder}: {_size(free)} free" + ("" if writable else ", not writable")
        well = writable and free > _LITTLE_DISK
        yield Finding("disk", name, value, "ok" if well else "note", "" if well else mend)


def _kernels() -> Iterator[Finding]:
    try:
        found = " ".join(compiler())
    except CompilerError:
        mend = "Install gcc or clang (or set CC) for fused=True of Adan and SGD-SaI; without it they run as pure torch."
        yield Finding("compiler", "C", "none found", "note", mend)
    else:
        yield Finding("compiler", "C", f"{found} (for fused=True on a CPU)")


def _ask(code: list[str], variables: Mapping[str, str], seconds: float) -> tuple[Any, str]:
    """(the JSON that a process printed, "") or (None, what went wrong)."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", *code],
            capture_output=True,
            text=True,
            timeout=seconds,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer in {seconds:.0f} s"
    except OSError as error:
        return None, f"no process could be started ({error})"
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return None, lines[-1] if lines else f"ended with exit code {done.returncode}"
    return json.loads(done.stdout.strip().splitlines()[-1]), ""


def _scan(told: dict[str, Any]) -> Scan:
    gpus = [
        Gpu(**{**gpu, "processes": tuple(Process(**process) for process in gpu["processes"])})
        for gpu in told["gpus"]
    ]
    return Scan(tuple(gpus), told["why_none"], told["driver"])


def _contained() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def _size(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
