"""What of a submission can be refused at once."""

from __future__ import annotations

from pathlib import Path

from autoopt import policy as policies
from autoopt.daemon.cluster import ClusterDevices
from autoopt.daemon.commands import RAY_TOKEN
from autoopt.daemon.jobs import Submission
from autoopt.daemon.machine import Machine
from autoopt.errors import DeviceError, UsageError
from autoopt.optim import registry
from autoopt.units import parse_duration


def check(
    submission: Submission, base: Path, machine: Machine, cluster: ClusterDevices | None = None
) -> None:
    """Refuse what can be known to be wrong before anything is copied.

    Args:
        submission: what is asked.
        base: where its paths begin.
        machine: the daemon's devices.
        cluster: the one that it has besides.

    Raises:
        UsageError, BudgetError, PolicyError, UnknownOptimizer, DeviceError: what it is.
    """
    words = [submission.target, submission.cwd or "", submission.interpreter or "", *submission.arguments]
    if any("\0" in word for word in words):
        raise UsageError("There is a null character in what was submitted.", "No process can be given one.")
    options = submission.options
    if options.budget is not None:
        parse_duration(options.budget)
    for name in options.optimizers or []:
        registry.get(name)
    if options.policy is not None:
        path = base / options.policy
        policies.load(str(path) if path.is_file() else options.policy).limited(options.limit)
    if RAY_TOKEN in submission.environment:
        raise UsageError(
            f"{RAY_TOKEN} is a secret, and what is submitted is written down.",
            "Leave it out: the daemon hands its own to the jobs that run on its cluster.",
        )
    if cluster is not None and cluster.takes(submission.options.device):
        cluster.check(options.device)
        return
    if options.ship is not None:
        raise UsageError("--ship is for a job on a cluster, and this one is not.", "Leave it out.")
    wanted = machine.wanted(options.device)
    if wanted == [] and (submission.cores or 1) > len(machine.cores):
        raise DeviceError(
            f"The job asks for {submission.cores} cores, and the daemon has {len(machine.cores)}.",
            "Ask for fewer with --cores.",
        )
