"""Where a job's trials run: on devices of this machine, alone or in groups, or on a cluster."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from autoopt.job import Job
from autoopt.records import Cluster, Noted, WorkloadReport
from autoopt.trials.runner import Runner

if TYPE_CHECKING:
    from autoopt.hardware import Device

TIMING_SHARE = 0.05
"""Of the budget that timing the optimizers' steps may take; of a fast model it takes a second."""
_PROCESS_BYTES = 600 * 2**20
"""A worker before it has a model: Python, torch and what it loads on the way."""
_COPIES = 10
"""Copies of the parameters that a CPU worker holds at worst: model, gradient, four of state, initial weights of seeds."""


def leased_devices(job: Job, stack: ExitStack) -> list[Device]:
    """The devices of this run, which no other run and no daemon of this machine uses meanwhile."""
    from autoopt.hardware.leased import leased

    if (ranks := job.flags.nproc or 1) > 1:
        from autoopt.hardware.grouped import request_for

        job.device = request_for(job.device, ranks)
    chosen, leases = leased(job.device, f"autoopt profile {job.target} (process {os.getpid()})")
    for lease in leases:
        stack.callback(lease.release)
    return chosen


def _cluster(job: Job, cluster: Cluster, logs: Path, seconds: float) -> Runner:
    from autoopt.trials.cluster.pool import ClusterPool
    from autoopt.trials.cluster.shipping import Shipment

    made = ClusterPool(
        cluster.address,
        Shipment.of(job.target, Path(cluster.ship) if cluster.ship is not None else None),
        job.arguments,
        job.flags,
        log_dir=logs,
        device=job.device,
        cpus=cluster.cpus,
        gpus=cluster.gpus,
        workers=job.workers,
        ranks=job.flags.nproc or 1,
        load_seconds=max(1.0, seconds),
        timing_seconds=TIMING_SHARE * job.budget,
    )
    job.observer.event(Noted(at=time.time(), text=made.greeting))
    return made


def pool(job: Job, logs: Path, chosen: list[Device], seconds: float) -> Runner:
    if job.cluster is not None:
        return _cluster(job, job.cluster, logs, seconds)
    from autoopt.hardware import worker_environment, workers_for
    from autoopt.trials.pool import Pool
    from autoopt.trials.watched import watch

    if (ranks := job.flags.nproc or 1) > 1:
        return _groups(job, logs, chosen, ranks, seconds)
    count = workers_for(chosen, job.workers)
    made = Pool(
        job.target,
        job.arguments,
        job.flags,
        log_dir=logs,
        devices=[d.worker_name for d in chosen],
        workers=count.workers,
        threads=count.threads,
        environment=worker_environment(chosen),
        load_seconds=max(1.0, seconds),
        timing_seconds=TIMING_SHARE * job.budget,
    )
    return watch(made, chosen)


def _groups(job: Job, logs: Path, chosen: list[Device], ranks: int, seconds: float) -> Runner:
    """A pool whose workers are of several processes each, on devices of their own."""
    from autoopt.hardware import worker_environment
    from autoopt.hardware.grouped import groups_for
    from autoopt.trials.pool import Pool

    groups = groups_for(chosen, ranks, job.workers)
    return Pool(
        job.target,
        job.arguments,
        job.flags,
        log_dir=logs,
        devices=[chosen[0].kind if chosen[0].kind == "cpu" else f"cuda:{rank}" for rank in range(ranks)],
        workers=len(groups.devices),
        ranks=ranks,
        threads=groups.threads,
        environment=[worker_environment(own) for own in groups.devices],
        load_seconds=max(1.0, seconds),
        timing_seconds=TIMING_SHARE * job.budget,
    )


def fit_memory(job: Job, runner: Runner, report: WorkloadReport, chosen: list[Device]) -> list[str]:
    """Gives up workers that would not fit into memory; says so."""
    from autoopt.hardware import workers_for
    from autoopt.trials.pool import Pool

    if not isinstance(runner, Pool) or job.workers is not None or chosen[0].kind != "cpu":
        return []
    # What the workers hold already is no longer free, so this errs on the careful side.
    size = (job.flags.nproc or 1) * (_PROCESS_BYTES + 4 * _COPIES * report.parameters)
    fit = workers_for(chosen, None, size).workers
    if fit >= runner.slots:
        return []
    runner.shrink(fit)
    return [
        f"{fit} trials at once, not more: a worker of this model may need {size / 2**30:.1f} GiB of memory"
    ]
