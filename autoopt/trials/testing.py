"""A fake of the hardest boundary: trials without torch, without a model, with every way of dying.

    Pool("fake", engine="autoopt.trials.testing:FakeEngine", log_dir=...)

`target` chooses how loading goes, a spec's optimizer how its trial goes (see `LOADS` and `TRIALS`); with any
other name all goes well. The loss at the end depends on rate, length and seed like a real one: a parabola
over log10(lr) with its lowest point at 1e-2.
"""

from __future__ import annotations

import atexit
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from autoopt.errors import UserCodeError
from autoopt.records import (
    Baseline,
    Flags,
    Outcome,
    Settings,
    TrialResult,
    TrialSpec,
    WorkloadReport,
)
from autoopt.trials.protocol import Load
from autoopt.trials.runner import Progress

FAKE_ENGINE = "autoopt.trials.testing:FakeEngine"
FIRST_LOSS = 10.0
FAILS_IF = "fails-if:"
"""Target "fails-if:PATH": loading goes well until there is a file at PATH."""


def spec(
    id: int, optimizer: str, *, lr: float = 1e-2, steps: int = 10, hang_seconds: float = 30.0
) -> TrialSpec:
    """A spec with everything else filled in."""
    return TrialSpec(
        id=id,
        stage="test",
        optimizer=optimizer,
        hyper={"lr": lr},
        steps=steps,
        seed=0,
        hang_seconds=hang_seconds,
    )


def fake_loss(spec: TrialSpec) -> float:
    """(log10(lr) + 2)^2 + 1 / steps, and up to 1 % of noise drawn from the seed."""
    clean = (math.log10(spec.hyper.get("lr", 1e-3)) + 2) ** 2 + 1 / spec.steps
    return clean * (1 + 0.01 * random.Random(spec.seed).random())


class FakeEngine:
    """An `autoopt.trials.engine.Engine`."""

    def __init__(self, request: Load | None = None) -> None:
        self._target = request.target if request else "fake"
        self._flags = request.flags if request else Flags()

    def load(self, *, full: bool) -> WorkloadReport | None:
        print("the fake prints while it loads")
        if self._target.startswith(FAILS_IF) and Path(self._target.removeprefix(FAILS_IF)).exists():
            _wrong_file()
        LOADS.get(self._target, _nothing)()
        return fake_report(self._target, self._flags) if full else None

    def execute(self, spec: TrialSpec) -> Iterator[Progress | TrialResult]:
        strike = TRIALS.get(spec.optimizer, _nothing)
        loss = fake_loss(spec)
        for step in range(1, spec.steps + 1):
            # Halfway, so that there is progress before and steps left to do.
            if step == spec.steps // 2 + 1:
                strike()
            now = loss + (FIRST_LOSS - loss) * (1 - step / spec.steps)
            if spec.optimizer == "nan" and step > spec.steps // 2:
                yield Progress(0, spec.id, step, spec.steps, math.nan)
                yield TrialResult(spec=spec, outcome=Outcome.DIVERGED, message="not finite", steps_done=step)
                return
            yield Progress(0, spec.id, step, spec.steps, now)
            if spec.optimizer == "endless":
                time.sleep(0.01)
        yield TrialResult(
            spec=spec,
            outcome=Outcome.COMPLETED,
            loss=loss,
            steps_done=spec.steps,
            curve=[(spec.steps, loss)],
            seconds={"total": 0.001 * spec.steps},
            step_seconds=0.001,
        )

    def close(self) -> None:
        print("the fake closes")


def fake_report(target: str, flags: Flags) -> WorkloadReport:
    """The report of a tiny workload on the CPU."""
    return WorkloadReport(
        target=target,
        kind="functions",
        settings=Settings(steps=flags.steps or 1000),
        baseline=Baseline(
            source="default", optimizer="AdamW", registry_name="adamw", hyper={"lr": 1e-3}, schedule=None
        ),
        device="cpu",
        parameters=10,
        trainable=10,
        dtypes={"float32": 10},
        layers={"Linear": 1},
        groups=[],
        batch="tuple(float32[4, 2], int64[4])",
        samples_per_batch=4,
        batches_per_epoch=8,
        validation="own",
        validation_batches=2,
        first_loss=FIRST_LOSS,
        initial_loss=FIRST_LOSS,
        restore="in_place",
        reproducible_data=True,
        step_seconds=0.001,
        data_seconds=0.0001,
        eval_batch_seconds=0.0005,
    )


def _nothing() -> None:
    pass


def _segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _sigkill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    print("hanging", flush=True)
    while True:
        time.sleep(3600)


def _memory() -> None:
    raise MemoryError("cannot hold 1 TiB")


def _error() -> None:
    raise ValueError("the user's mistake")


def _child(*, leaves: bool) -> None:
    """A process that holds on to all that it can; `leaves`: in a session of its own, with its parent dead."""
    code = "import os, time; print('child', os.getpid(), flush=True); time.sleep(3600)"
    if leaves:
        start = f"[sys.executable, '-c', {code!r}], start_new_session=True"
        code = f"import subprocess, sys; subprocess.Popen({start})"
    child = subprocess.Popen([sys.executable, "-c", code], close_fds=False)
    if leaves:
        child.wait()


def _fork() -> None:
    """A forked child, as a loader's worker process is; it outlives the trial."""
    child = os.fork()
    if child == 0:
        print("child", os.getpid(), flush=True)
        _hang()


def _fork_then_segfault() -> None:
    _fork()
    _segfault()


def _wrong_file() -> None:
    raise UserCodeError(
        "loss() raised KeyError: 'x'", "Look at it.", where="model.py:3", trace="Traceback ..."
    )


def _print() -> None:
    print("the user's code prints")
    print('{"kind": "finished"}')
    os.write(2, b"and writes to stderr\n")


def _environment() -> None:
    """Tells in the log what a worker is given, and how it leaves."""
    atexit.register(print, "the user's exit handler ran")
    names = ("AUTOOPT_TRIAL", "OMP_NUM_THREADS", "PYTHONUNBUFFERED", "CUDA_VISIBLE_DEVICES")
    print(
        " ".join(f"{name}={os.environ.get(name, '-')}" for name in names),
        "argv",
        sys.argv,
        "sid",
        os.getsid(0),
    )


LOADS: dict[str, Callable[[], object]] = {
    "load-error": _wrong_file,
    "load-exit": lambda: sys.exit(2),
    "load-segfault": _segfault,
    "load-hang": _hang,
    "load-memory": _memory,
}
"""target -> what happens while loading."""

TRIALS: dict[str, Callable[[], object]] = {
    "segfault": _segfault,
    "sigkill": _sigkill,
    "exit": lambda: sys.exit("enough"),
    "hard-exit": lambda: os._exit(3),
    "hang": _hang,
    "memory": _memory,
    "error": _error,
    "print": _print,
    "environment": _environment,
    "child": lambda: _child(leaves=False),
    "daemon": lambda: _child(leaves=True),
    "fork": _fork,
    "fork-segfault": _fork_then_segfault,
}
"""optimizer -> what happens halfway through. Besides: "nan" diverges, "endless" takes 10 ms a step."""
