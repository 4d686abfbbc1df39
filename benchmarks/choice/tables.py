"""Trains every optimizer on every workload, so that planners can be replayed in seconds. From the root:

    python -m benchmarks.choice.tables                                    # all that is not there yet
    python -m benchmarks.choice.tables --only vit --optimizers adamw sgd --minutes 10
    python -m benchmarks.choice.tables --only long_regression long_chars long_deep

Each run goes through the code that trials go through: `autoopt.trials.execute` on the loaded workload, with one
thread. Rows are on the disk as they are done; a stop by Ctrl-C or a kill loses the runs in flight alone. What the
columns mean is in `rows.py`, what is trained and in which order in `jobs.py`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cache
from pathlib import Path
from types import FrameType
from typing import NoReturn

import torch

from autoopt.errors import OptimizerUnavailable
from autoopt.records import TrialResult, TrialSpec
from autoopt.trials.execute import execute
from autoopt.workload import Workload, load
from benchmarks.choice import LONG, WORKLOADS, jobs, rows
from benchmarks.choice.jobs import Job
from benchmarks.choice.rows import Row

FOLDER = Path(__file__).with_name("workloads")
TYPICAL_SECONDS, LONG_SECONDS = 1.9, 10.0
"""CPU time of a full run, before the first one was measured; of a long workload's."""
_LOOK = 20
"""So many rows until the list of jobs is made anew."""


def main() -> None:
    flags = _flags()
    signal.signal(signal.SIGTERM, _interrupt)
    work = {name: jobs.total_work([name], flags.optimizers, flags.rates) for name in flags.only}
    seconds = sum(LONG_SECONDS * w if name in LONG else TYPICAL_SECONDS * w for name, w in work.items())
    print(
        f"{len(flags.only)} workloads, optimizers: {', '.join(flags.optimizers or ['all of each'])}; "
        f"{sum(work.values()):.0f} full runs' time, about {seconds / flags.jobs / 60:.0f} minutes on {flags.jobs} "
        "cores, less what is there."
    )
    table = Table(flags.out, flags.only)
    try:
        table.fill(flags.only, flags.optimizers, flags.jobs, 60 * flags.minutes, flags.rates)
    except KeyboardInterrupt:
        sys.exit("Stopped; what was done is kept, and the same command goes on.")
    finally:
        table.compact()


class Table:
    """The rows of some workloads, in memory and in one file each.

    Args:
        out: folder of the files.
        workloads: names.
        folder: where the workloads are.
    """

    def __init__(self, out: Path, workloads: Sequence[str], folder: Path = FOLDER) -> None:
        self._folder = folder
        self._files = {name: out / f"{name}.json.gz" for name in workloads}
        self._code = {name: _digest(folder, name) for name in workloads}
        self._steps = {name: _steps(str(folder / f"{name}.py")) for name in workloads}
        self.rows: dict[Job, Row] = {}
        self.impossible: dict[tuple[str, str], str] = {}
        for name, file in self._files.items():
            found = rows.read(file)
            self.rows |= {jobs.of(row): row for row in found}
            old = sum(row["code"] != self._code[name] for row in found)
            if old:
                print(f"{name}: {old} of {len(found)} rows are of another version of its files.")
        self.compact()

    def compact(self) -> None:
        """Writes every file anew, ordered and small."""
        for name, file in self._files.items():
            found = [row for row in self.rows.values() if row["workload"] == name]
            if found:
                rows.write(file, found)

    def fill(
        self,
        workloads: Sequence[str],
        names: Sequence[str] | None,
        workers: int,
        seconds: float = float("inf"),
        number: int | None = None,
        lengths: Sequence[float] | None = None,
    ) -> None:
        """Trains what is missing, for at most so many seconds (the runs in flight are finished).

        Optimizers and lengths are each workload's own unless they are given.
        """
        begin, worked = time.monotonic(), 0.0
        total = jobs.total_work(workloads, names, number)
        mine = {(w, n) for w in workloads for n in names or jobs.optimizers(w)}
        done = sum(job.work for job in self.rows if (job.workload, job.optimizer) in mine)
        flying: dict[Future[Row | str], Job] = {}
        waiting: deque[Job] = deque()
        looked = -_LOOK
        with _pool(workers, self._folder) as pool:
            try:
                while True:
                    if not waiting or len(self.rows) >= looked + _LOOK:  # rows bring jobs that hang on them
                        found = jobs.pending(
                            workloads,
                            names,
                            self.rows,
                            number=number,
                            lengths=lengths,
                            impossible=self.impossible,
                        )
                        waiting = deque(job for job in found if job not in flying.values())
                        looked = len(self.rows)
                    while waiting and len(flying) < workers and time.monotonic() - begin < seconds:
                        job = waiting.popleft()
                        if (job.workload, job.optimizer) not in self.impossible:
                            flying[pool.submit(_train, job, self._steps[job.workload])] = job
                    if not flying:
                        return
                    for future in wait(flying, return_when=FIRST_COMPLETED).done:
                        job = flying.pop(future)
                        worked, done = worked + job.work, done + job.work
                        left = max(total - done, 0.0) * (time.monotonic() - begin) / worked
                        self._take(job, future.result(), f"about {left / 60:.0f} min left")
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _take(self, job: Job, answer: Row | str, left: str) -> None:
        what = f"{job.workload} {job.optimizer} lr {dict(job.settings)['lr']:g}, T x {job.fraction:g}, seed {job.seed}"
        if isinstance(answer, str):
            self.impossible[job.workload, job.optimizer] = answer
            print(f"{what}: left out, and with it {job.optimizer} on {job.workload}: {answer}", flush=True)
            return
        row = answer | {"code": self._code[job.workload]}
        self.rows[job] = row
        self._files[job.workload].parent.mkdir(parents=True, exist_ok=True)
        rows.append(self._files[job.workload], row)
        loss = "diverged" if row["loss"] is None else f"{row['loss']:.4g}"
        print(f"{len(self.rows)} rows, {left}; {what}: {loss}, {row['seconds']:.2f} s", flush=True)


def _pool(workers: int, folder: Path) -> ProcessPoolExecutor:
    """Processes that are forked from one that has imported all and run nothing, so that no thread is lost."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.choice.tables"])
    return ProcessPoolExecutor(workers, context, _begin_worker, (folder,))


# --- in a worker ---------------------------------------------------------------------------------------------

_folder = FOLDER


def _begin_worker(folder: Path) -> None:
    """Once per worker: deaf to Ctrl-C, which is the command's affair, and gone when the command is."""
    global _folder
    _folder = folder
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_outlive_nobody, daemon=True).start()
    torch.set_num_threads(1)
    # The first optimizer of a process imports torch's compiler: no run shall pay for that.
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)


def _outlive_nobody() -> None:
    """Waits for the end of the process that started this one, and ends this one."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _train(job: Job, total: int) -> Row | str:
    """The row of a job, or why this optimizer cannot train this workload."""
    workload = _loaded(job.workload)
    try:
        return train(workload, job, total)
    except OptimizerUnavailable as error:
        return str(error)
    except Exception as error:
        traceback.print_exception(error)
        return f"{type(error).__name__}: {error}"


def train(workload: Workload, job: Job, total: int) -> Row:
    """Trains `job` on a loaded workload, whose real run has `total` steps."""
    steps = max(1, round(job.fraction * total))
    initial = _initial_loss(workload, job.seed, steps)
    spec = TrialSpec(
        id=0,
        stage="table",
        optimizer=job.optimizer,
        hyper=dict(job.settings),
        steps=steps,
        seed=job.seed,
    )
    begin = time.process_time()
    *_, result = execute(workload, spec)
    assert isinstance(result, TrialResult)
    return rows.row(
        job.workload,
        result,
        cpu_seconds=time.process_time() - begin,
        length_fraction=job.fraction,
        initial_loss=float(f"{initial:.6g}"),
    )


@cache
def _loaded(name: str) -> Workload:
    return load(str(_folder / f"{name}.py"))


@cache
def _initial_loss(workload: Workload, seed: int, steps: int) -> float:
    """Validation loss before training. It also pays for what the first use of a workload costs."""
    return workload.evaluate(workload.start(seed, steps)).loss


# --- the rest ------------------------------------------------------------------------------------------------


def _steps(target: str) -> int:
    """T of a workload: its STEPS, read without building anything."""
    workload = load(target)
    try:
        return workload.settings.steps
    finally:
        workload.close()


def _digest(folder: Path, name: str) -> str:
    shared = [folder / "data.py", folder / ("batches.py" if name in LONG else "attention.py")]
    return rows.digest([folder / f"{name}.py", *(file for file in shared if file.exists())])


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.choice.tables", description=(__doc__ or "").split("\n")[0]
    )
    able = (*WORKLOADS, *LONG)
    parser.add_argument(
        "--only", nargs="+", choices=able, default=list(WORKLOADS), help="workloads; all but the long ones"
    )
    parser.add_argument(
        "--optimizers", nargs="+", choices=jobs.optimizers(), metavar="NAME", help="each workload's own"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, one core each")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--rates", type=int, help="learning rates of each grid")
    parser.add_argument("--out", type=Path, default=rows.TABLES, help="folder of the tables")
    return parser.parse_args()


if __name__ == "__main__":
    main()
