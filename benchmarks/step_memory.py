"""How much memory does a step take beyond parameters, gradients and state? From the root of the repository:

    python -m benchmarks.step_memory

Each contender runs in a process of its own on a transformer's 100 M float32 parameters. Its resident memory is
read before a step, its peak is set back (Linux's /proc/self/clear_refs) and read after the step; the state exists
already. The table is printed and appended to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.util
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import Parameter

from autoopt.optim._blocks import CPU_BLOCK
from autoopt.optim.adahessian import AdaHessian
from autoopt.optim.adan import Adan
from autoopt.optim.sgd_sai import SGDSaI
from benchmarks.optimizers import transformer
from benchmarks.results import ROOT, append, heading, machine

THREADS, STEPS = 1, 3
SHAPES = transformer(9, 768, 46000, 1024)
"""9 layers of GPT-2's width: 100 million parameters."""
CLIP = {"max_grad_norm": 1.0}


def _adahessian(params: list[Parameter], **options: Any) -> AdaHessian:
    """One that has had its D and is now between two refreshes: its update alone, without differentiation."""
    optimizer = AdaHessian(params, lr=1e-4, weight_decay=0.01, update_each=10**6, **options)
    for group in optimizer.param_groups:
        group["taken"] = 1
    for p in params:
        optimizer.state[p] = {
            "step": torch.ones(()),
            "exp_avg": torch.zeros_like(p),
            "exp_hessian_diag_sq": torch.full_like(p, 1e-4),
            "hessian_diag": torch.full_like(p, 1e-2),
        }
    return optimizer


def _timm_adan(params: list[Parameter], **options: Any) -> torch.optim.Optimizer:
    package = importlib.util.find_spec("timm")
    if package is None or package.origin is None:
        raise SystemExit("timm is not installed: pip install --no-deps timm")
    # timm's package imports torchvision; the file alone does not.
    spec = importlib.util.spec_from_file_location(
        "timm_adan", Path(package.origin).parent / "optim" / "adan.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    optimizer: torch.optim.Optimizer = module.Adan(params, lr=1e-4, weight_decay=0.01, **options)
    return optimizer


def _with(make: Callable[..., Any], **options: Any) -> Callable[[list[Parameter]], torch.optim.Optimizer]:
    return lambda params: make(params, **options)


STEADY = {"lr": 1e-4, "weight_decay": 0.01}
HALF = {"state_dtype": torch.bfloat16}
CONTENDERS: dict[str, Callable[[list[Parameter]], torch.optim.Optimizer]] = {
    "AdamW(fused=True)": _with(torch.optim.AdamW, fused=True, **STEADY),
    "AdamW(foreach=True)": _with(torch.optim.AdamW, foreach=True, **STEADY),
    "AdamW(foreach=False)": _with(torch.optim.AdamW, foreach=False, **STEADY),
    "timm's Adan(foreach=True)": _with(_timm_adan, foreach=True),
    "timm's Adan(foreach=False)": _with(_timm_adan, foreach=False),
    "Adan": _with(Adan, **STEADY),
    "Adan(foreach=True)": _with(Adan, foreach=True, **STEADY),
    "Adan(foreach=False)": _with(Adan, foreach=False, **STEADY),
    "Adan(fused=True)": _with(Adan, fused=True, **STEADY),
    "Adan(max_grad_norm)": _with(Adan, **STEADY, **CLIP),
    "Adan(state_dtype=bfloat16)": _with(Adan, **STEADY, **HALF),
    "SGD-SaI": _with(SGDSaI, **STEADY),
    "SGD-SaI(foreach=True)": _with(SGDSaI, foreach=True, **STEADY),
    "SGD-SaI(foreach=False)": _with(SGDSaI, foreach=False, **STEADY),
    "SGD-SaI(fused=True)": _with(SGDSaI, fused=True, **STEADY),
    "SGD-SaI(state_dtype=bfloat16)": _with(SGDSaI, **STEADY, **HALF),
    "AdaHessian, update": _with(_adahessian),
    "AdaHessian(foreach=False), update": _with(_adahessian, foreach=False),
    "AdaHessian(max_grad_norm), update": _with(_adahessian, **CLIP),
}


def _resident(key: str) -> int:
    """VmRSS (now) or VmHWM (peak) in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return 1024 * int(line.split()[1])
    raise SystemExit(f"/proc/self/status has no {key}")


def extra_bytes(make: Callable[[list[Parameter]], torch.optim.Optimizer], shapes: Any, steps: int) -> int:
    """The median over `steps` steps of the peak during a step less what was resident before it."""
    # Written to, so that the memory is really there; drawing 200 million numbers would take longer than all else.
    params = [Parameter(torch.full(shape, 0.02)) for shape in shapes]
    for p in params:
        p.grad = torch.full_like(p, 1e-3)
    optimizer = make(params)
    optimizer.step()  # makes the state
    found = []
    for _ in range(steps):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(
            0
        )  # what the last step freed is resident still, and would be used unseen
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to the present
        optimizer.step()
        found.append(_resident("VmHWM") - before)
    return int(statistics.median(found))


def markdown(extra: dict[str, int], parameters: int) -> str:
    """The table of RESULTS.md."""
    rows = [
        f"| {name} | {value / 2**20:.1f} | {value / (4 * parameters):.2%} | {value / (4 * CPU_BLOCK):.1f} |"
        for name, value in extra.items()
    ]
    head = "| optimizer | extra MiB | of the parameters' bytes | blocks |"
    return "\n".join([head, "|---|---|---|---|", *rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_memory", description=__doc__)
    parser.add_argument("--one", choices=CONTENDERS, help="measure this one here and print its bytes")
    chosen = parser.parse_args().one
    torch.set_num_threads(THREADS)
    if chosen is not None:
        print(extra_bytes(CONTENDERS[chosen], SHAPES, STEPS))
        return
    begin, extra = time.monotonic(), {}
    for name in CONTENDERS:
        command = [sys.executable, "-m", "benchmarks.step_memory", "--one", name]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        extra[name] = int(done.stdout)
        print(f"{name}: {extra[name] / 2**20:.1f} MiB", flush=True)
    parameters = sum(map(math.prod, SHAPES))
    append(
        heading("Memory of a step", "python -m benchmarks.step_memory")
        + f"{THREADS} thread on {machine()}; {time.monotonic() - begin:.0f} s in all. Peak resident memory during a "
        f"step less what was resident before it, median of {STEPS} steps, when the state exists; {parameters / 1e6:.0f} "
        f"million float32 parameters ({4 * parameters / 2**20:.0f} MiB). A block is {4 * CPU_BLOCK / 2**20:g} MiB. "
        "AdaHessian's is the update between two refreshes.\n\n" + markdown(extra, parameters) + "\n"
    )


if __name__ == "__main__":
    main()
