"""Does what is measured on a real GPU agree with what was allocated? From the root of the repository, under a minute:

    python -m benchmarks.memory.device_check [--json FILE]

It watches the first visible GPU as a run does, allocates a known number of bytes, brings another process onto the GPU in
mid-trial, lets memory run out, and has a trial run on a clean device afterwards. Each check is a line of the table; the
exit code is 1 when one of them fails, 2 without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoopt.hardware import devices
from autoopt.hardware.choose import Device
from autoopt.hardware.monitor import Monitor, Sample
from autoopt.hardware.sharing import SLACK
from autoopt.records import Flags, Outcome, TrialResult, TrialSpec
from autoopt.trials.inprocess import InProcess
from autoopt.trials.watched import Watched
from autoopt.workload import from_callables

GIB, MIB = 2**30, 2**20
WIDTH = 4096
_GUEST = (
    "import sys, time, torch; kept = torch.ones(int(sys.argv[1]), dtype=torch.uint8, device='cuda:0');"
    "torch.cuda.synchronize(); print('here', flush=True); time.sleep(float(sys.argv[2]))"
)


@dataclass(frozen=True)
class Check:
    """One line: what was found, what it had to be, and whether it was."""

    name: str
    found: str
    wanted: str
    passed: bool


def net() -> nn.Module:
    """Two weights of 64 MiB; a sample keeps 128 KiB for backward."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.Tanh(), nn.Linear(WIDTH, WIDTH, bias=False))


def squared(model: nn.Module, batch: Any) -> Tensor:
    """The loss."""
    error: Tensor = model(batch)
    return error.square().mean()


class Slow:
    """Batches of `rows` samples, each after so many seconds: trials last as long as a check needs."""

    def __init__(self, rows: int) -> None:
        self.rows, self.seconds = rows, 0.0

    def __call__(self) -> Any:
        """An epoch."""
        return self._batches()

    def _batches(self) -> Any:
        for _ in range(64):
            time.sleep(self.seconds)
            yield torch.randn(self.rows, WIDTH)


def spec(number: int, steps: int, name: str = "adamw") -> TrialSpec:
    """A trial."""
    return TrialSpec(id=number, stage="check", optimizer=name, hyper={"lr": 1e-4}, steps=steps, seed=0)


def ended(runner: Watched, trial: TrialSpec, during: Callable[[], None] = lambda: None) -> TrialResult:
    """Runs a trial to its end; `during` is called once it is under way."""
    runner.submit(0, trial)
    called = False
    while True:
        for item in runner.wait(0.2):
            if isinstance(item, TrialResult):
                return item
            if not called and item.step >= 2:
                called = True
                during()


def guest(seconds: float) -> subprocess.Popen[str]:
    """Another process with 2 GiB on the GPU, back once it is there."""
    process = subprocess.Popen(
        [sys.executable, "-c", _GUEST, str(2 * GIB), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def samples(eyes: Monitor, seconds: float = 10.0) -> list[Sample]:
    """At least two looks."""
    deadline, found = time.monotonic() + seconds, list[Sample]()
    while len(found) < 2 and time.monotonic() < deadline:
        found += eyes.samples()
        time.sleep(0.05)
    return found


def main() -> int:
    """Runs all checks; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the checks to this file")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no GPU that torch can use")
        return 2
    (device,) = devices("cuda:0")
    checks = [*_watching(device), *_trials(device), *_doctor()]
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(
            f"{'ok  ' if check.passed else 'FAIL'} {check.name:{width}}  {check.found}  (wanted: {check.wanted})"
        )
    if given.json:
        given.json.write_text(json.dumps([asdict(check) for check in checks], indent=1))
    return 0 if all(check.passed for check in checks) else 1


def _watching(device: Device) -> list[Check]:
    assert device.gpu is not None
    begin = time.monotonic()
    with Monitor([device.gpu.uuid], 0.1) as eyes:
        first = samples(eyes)
        seconds = time.monotonic() - begin
        kept = torch.ones(GIB, dtype=torch.uint8, device="cuda:0")
        torch.cuda.synchronize()
        time.sleep(0.3)
        eyes.samples()
        last = samples(eyes)
        trouble = eyes.trouble
        del kept
        torch.cuda.empty_cache()
    if not first or not last:
        return [Check("the driver is seen", trouble or "nothing", "samples", False)]
    grown = last[-1].used - first[-1].used
    listed = last[-1].processes
    pids = "not told" if listed is None else ", ".join(str(p.pid) for p in listed) or "none"
    return [
        Check("two looks at the driver", f"{seconds:.2f} s", "below 5 s", seconds < 5),
        Check(
            "growth with context and 1 GiB", f"{grown / GIB:.2f} GiB", "1 to 3 GiB", GIB <= grown < 3 * GIB
        ),
        Check("processes on the GPU", pids, "whatever the driver tells", True),
    ]


def _trials(device: Device) -> list[Check]:
    assert device.gpu is not None
    data = Slow(64)
    workload = from_callables(
        model=net,
        train=data,
        val=lambda: [torch.randn(8, WIDTH)],
        loss=squared,
        flags=Flags(steps=20),
        device="cuda:0",
    )
    eyes = Monitor([device.gpu.uuid], 0.1)
    # Only this process is ours: what comes onto the GPU is our child, and has to count as a stranger.
    runner = Watched(InProcess(workload), [device], eyes, lambda: {os.getpid()})
    try:
        runner.start()
        data.seconds = 0.1
        return [*_alone(runner), *_disturbed(runner), *_too_much(runner, data)]
    finally:
        runner.close()


def _alone(runner: Watched) -> list[Check]:
    big = torch.ones(4 * GIB, dtype=torch.uint8, device="cuda:0")
    del big  # what went before must not count: neither its peak nor the cache that it left
    found = ended(runner, spec(1, 20))
    weights = 2 * WIDTH * WIDTH * 4
    peak, reserved, use = found.peak_bytes or 0, found.reserved_bytes or 0, found.device_use
    words = "none" if use is None else json.dumps({k: v for k, v in use.model_dump().items() if k != "uuid"})
    context = None if use is None else use.context
    return [
        Check(
            "a trial alone",
            f"{found.outcome}, {found.disturbed or 'undisturbed'}",
            "undisturbed",
            not found.disturbed,
        ),
        Check(
            "allocated at the peak",
            f"{peak / weights:.2f} x the weights",
            "4 to 7 (weights, gradients, two moments, temporaries)",
            4 <= peak / weights < 7,
        ),
        Check(
            "reserved", f"{reserved / MIB:.0f} MiB", "the peak or more, not 4 GiB", peak <= reserved < 4 * GIB
        ),
        Check("the driver's view of the trial", words, "samples", use is not None and use.samples > 0),
        Check(
            "context outside the allocator",
            "not known" if context is None else f"{context / MIB:.0f} MiB",
            "50 to 2000 MiB",
            context is not None and 50 * MIB < context < 2000 * MIB,
        ),
        Check(
            "process memory",
            f"{(found.process_bytes or 0) / MIB:.0f} MiB",
            "above 100",
            (found.process_bytes or 0) > 100 * MIB,
        ),
    ]


def _disturbed(runner: Watched) -> list[Check]:
    others: list[subprocess.Popen[str]] = []
    try:
        found = ended(runner, spec(2, 40), lambda: others.append(guest(2.0)))
    finally:
        for other in others:
            other.kill()
            other.wait()
            if other.stdout is not None:
                other.stdout.close()
    after = ended(runner, spec(3, 20))
    return [
        Check(
            "somebody came in mid-trial",
            found.repeated or "not noticed",
            "noticed, and repeated once",
            bool(found.repeated),
        ),
        Check("the repeat", found.disturbed or "undisturbed", "undisturbed", not found.disturbed),
        Check(
            "the next trial",
            after.disturbed or "undisturbed",
            "undisturbed",
            not after.disturbed and not after.repeated,
        ),
    ]


def _too_much(runner: Watched, data: Slow) -> list[Check]:
    data.seconds = 0.0
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(
        max(0, free - 3 * GIB), dtype=torch.uint8, device="cuda:0"
    )  # a small GPU: 3 GiB are left
    data.rows = 64 * 1024  # 1 GiB a layer and direction
    short = ended(runner, spec(4, 6))
    data.rows = 64
    before = torch.cuda.memory_allocated()
    clean = ended(runner, spec(5, 6))
    del taken
    torch.cuda.empty_cache()
    shortage = short.shortage
    asked = shortage.asked if shortage else None
    return [
        Check(
            "memory that runs out",
            short.message or str(short.outcome),
            "an answer",
            short.outcome is Outcome.OUT_OF_MEMORY,
        ),
        Check(
            "asked for, free",
            f"{asked}, {shortage.free if shortage else None}",
            "both known",
            bool(shortage and asked and shortage.free is not None),
        ),
        Check(
            "a batch that fits",
            "none"
            if shortage is None
            else f"{shortage.fits} of {shortage.batch}, {shortage.accumulate} accumulated",
            "a smaller one",
            bool(shortage and shortage.fits and shortage.batch and shortage.fits < shortage.batch),
        ),
        Check(
            "the device afterwards",
            f"{clean.outcome}, {(before - max(0, free - 3 * GIB)) / MIB:.0f} MiB held between trials",
            f"completed, below {SLACK // MIB} MiB held",
            clean.outcome is Outcome.COMPLETED and before - max(0, free - 3 * GIB) < SLACK,
        ),
    ]


def _doctor() -> list[Check]:
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "autoopt", "doctor", "--json"], capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - begin
    told = json.loads(done.stdout) if done.stdout else {"able": False, "findings": []}
    seen = [f["value"] for f in told["findings"] if f["section"] in ("GPUs", "torch")]
    return [
        Check("autoopt doctor", "; ".join(seen), "able", done.returncode == 0 and told["able"]),
        Check("its time", f"{seconds:.1f} s", "below 30 s", seconds < 30),
    ]


if __name__ == "__main__":
    sys.exit(main())
