"""A worker process of a crew: loads the workload once, then trains what it is told."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection

import torch

from autoopt.records import Outcome, TrialResult, TrialSpec
from autoopt.trials.execute import execute
from autoopt.workload import Workload, load
from benchmarks.choice.live import trainings, warm
from benchmarks.choice.live.nouns import STOP, Ended, Seen, Task


def main(pipe: Connection, target: str, measure: bool) -> None:
    """Sends a WorkloadReport or None when it is ready, or a text when it cannot be; then answers tasks.

    Args:
        measure: calibrate, and send the report.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's affair
    threading.Thread(target=_outlive_nobody, daemon=True).start()
    torch.set_num_threads(1)
    warm.optimizers()
    try:
        workload = load(target)
        report = workload.report() if measure else None
        workload.evaluate(workload.start(0, workload.settings.steps))  # pays for the first use of everything
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
        return
    try:
        pipe.send(report)
        while True:
            task = pipe.recv()
            if task != STOP:  # which came too late for the training that it was meant for
                pipe.send(_ended(pipe, workload, task))
    except (EOFError, BrokenPipeError):
        pass  # the command has closed its end
    finally:
        workload.close()


def _ended(pipe: Connection, workload: Workload, task: Task) -> Ended:
    try:
        for item in _course(workload, task):
            if isinstance(item, Ended):
                return item
            if isinstance(item, Seen):
                pipe.send(item)
                if pipe.recv() == STOP:
                    break
            elif pipe.poll() and pipe.recv() == STOP:
                break
    except Exception as error:  # of the optimizer or the workload: told, and the next task may do better
        traceback.print_exception(error)
        return Ended(None, f"{type(error).__name__}: {error}")
    return Ended(None, "stopped")


def _course(workload: Workload, task: Task) -> Iterator[Seen | Ended | None]:
    if task.kind == "watched":
        return trainings.watched(workload, task)
    if task.kind == "sweep":
        return trainings.sweep(workload, task)
    return _trial(workload, task)


def _trial(workload: Workload, task: Task) -> Iterator[Ended | None]:
    """What the product does with the same configuration."""
    before: tuple[float, ...] = ()
    if task.kind == "scored":
        before = (workload.evaluate(workload.start(task.seed, task.steps)).loss,)
    spec = TrialSpec(
        id=0,
        stage="live",
        optimizer=task.pick.optimizer,
        hyper=task.pick.hyper,
        steps=task.steps,
        seed=task.seed,
    )
    for item in execute(workload, spec):
        if isinstance(item, TrialResult):
            diverged = item.outcome is Outcome.DIVERGED
            yield Ended(item.loss, "diverged" if diverged else "completed", before)
        else:
            yield None


def _outlive_nobody() -> None:
    """Waits for the end of the process that started this one, and ends this one."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
