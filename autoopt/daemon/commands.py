"""The command that a job's runner is, and the environment that it runs in."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoopt.daemon.guard import MARKER
from autoopt.daemon.jobs import Job, Options, Submission
from autoopt.daemon.snapshot import Snapshot
from autoopt.errors import UsageError
from autoopt.files import raise_unwritable
from autoopt.hardware.leases import INHERITED
from autoopt.job import default_out
from autoopt.records import Cluster
from autoopt.trials.cluster.allotted import PLACES

_OURS = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "INVOCATION_ID")
"""Of systemd to the daemon, and to nobody else."""
RAY_TOKEN = "RAY_AUTH_TOKEN"


def profile(
    job: Job, snapshot: Snapshot, folder: Path, *, resume: bool, device: str, cluster: Cluster | None = None
) -> list[str]:
    """`autoopt profile` on a job's folder."""
    head = [_python(job.submission), "-m", "autoopt", "profile"]
    given = [snapshot.target, "--out", str(folder / "out"), "--json"]
    # A resume goes on with what the run was started with.
    more = ["--resume"] if resume else [_name(job.submission), *_flags(job.submission.options, device)]
    # The cluster may be at another address by now, and what a trial takes of it is the daemon's to say.
    there = [] if cluster is None else _on(cluster, job.submission, snapshot, folder)
    return [*head, *given, *more, *there, *_arguments(job.submission)]


def _on(cluster: Cluster, submission: Submission, snapshot: Snapshot, folder: Path) -> list[str]:
    flags = [f"--cluster={cluster.address}"]
    if cluster.cpus is not None:
        flags.append(f"--cpus-per-trial={cluster.cpus:g}")
    if cluster.gpus is not None:
        flags.append(f"--gpus-per-trial={cluster.gpus:g}")
    if submission.options.ship is not None:
        flags.append(f"--ship={shipped(submission.options.ship, snapshot, folder)}")
    return flags


def shipped(ship: str, snapshot: Snapshot, folder: Path) -> Path:
    """The copy of the folder that --ship names, which is in the project.

    Raises:
        UsageError: it is elsewhere.
    """
    copy = folder / "project"
    if snapshot.root is None:
        return Path(ship) if Path(ship).is_absolute() else copy / ship
    root = Path(snapshot.root)
    if not Path(ship).is_relative_to(root):
        raise UsageError(
            f"--ship {ship} is not in the project of the model, which is {root}.",
            "The project is the nearest folder above the file with a .git or a pyproject.toml, else the file's own.",
        )
    return copy / Path(ship).relative_to(root)


def memory(job: Job, snapshot: Snapshot, capacity: int) -> list[str]:
    """`autoopt memory` for a GPU of `capacity` bytes."""
    options = job.submission.options
    head = [
        _python(job.submission),
        "-m",
        "autoopt",
        "memory",
        snapshot.target,
        "--json",
        "--gpu",
        f"{capacity}B",
    ]
    for name in ("precision", "accumulate", "global_batch"):
        if (value := getattr(options, name)) is not None:
            head += [_flag(name), str(value)]
    if options.optimizers:
        head += ["--optimizers", ",".join(options.optimizers)]
    return [*head, *_arguments(job.submission)]


def environment(
    submission: Submission,
    marker: str,
    uuids: Sequence[str],
    base: Mapping[str, str] | None = None,
    places: Path | None = None,
) -> dict[str, str]:
    """The daemon's environment, over it the submitter's, over that what makes exactly the leased devices visible.

    Args:
        places: of a job on a cluster, where it is told what it may use there. Only such a job gets the cluster's token:
            what knows it is the run, not the user's code, which is elsewhere.
    """
    hidden = (*_OURS, *(() if places is not None else (RAY_TOKEN,)))
    kept = {k: v for k, v in (os.environ if base is None else base).items() if k not in hidden}
    ours = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(uuids),
        INHERITED: ",".join(uuids),
        MARKER: marker,
        **({} if places is None else {PLACES: str(places)}),
    }
    return {**kept, **submission.environment, **ours}


def check_sent(submission: Submission, project: Path) -> None:
    """That a submission which came with its project names nothing outside of it.

    Raises:
        UsageError: a policy or an earlier run that is not in the project.
    """
    root = Path(os.path.realpath(project))
    options = submission.options
    named = [*options.prior, *([options.ship] if options.ship is not None else [])]
    if options.policy is not None and ("/" in options.policy or "." in options.policy):
        named.append(options.policy)
    for path in named:
        if not Path(os.path.realpath(root / path)).is_relative_to(root) or not (root / path).exists():
            raise UsageError(
                f"{path} is not in the project that was sent.", "Put it there, and name it from there."
            )


def make_durable(submission: Submission, cwd: Path, folder: Path) -> Submission:
    """The submission with nothing left that depends on the submitter's working directory or on a file they may edit.

    Args:
        submission: what was given.
        cwd: where its paths begin.
        folder: the job's.

    Raises:
        UsageError: the working directory or the interpreter is not there.
        RunError: a file could not be copied.
    """
    if not cwd.is_absolute() or not cwd.is_dir():
        raise UsageError(f"There is no folder {cwd}.", "Submit from a folder that the daemon can see.")
    if submission.interpreter is not None and shutil.which(submission.interpreter) is None:
        raise UsageError(
            f"There is no Python at {submission.interpreter}.", "Submit with one that the daemon can start."
        )
    options = submission.options
    changes: dict[str, object] = {}
    if options.prior:
        changes["prior"] = [str(cwd / prior) for prior in options.prior]
    if options.ship is not None:
        changes["ship"] = os.path.realpath(cwd / options.ship)
    if options.policy is not None and (file := cwd / options.policy).is_file():
        copy = folder / f"policy{file.suffix}"
        try:
            shutil.copyfile(file, copy)
        except OSError as error:
            raise_unwritable(error, copy, "The job was not accepted.")
        changes["policy"] = str(copy)
    if not changes:
        return submission
    return submission.model_copy(update={"options": options.model_copy(update=changes)})


def _python(submission: Submission) -> str:
    return submission.interpreter or sys.executable


def _arguments(submission: Submission) -> list[str]:
    return ["--", *submission.arguments] if submission.arguments else []


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _name(submission: Submission) -> str:
    """Every job's run is in a folder of the same name, which tells nobody what it is."""
    return f"--name={submission.name or default_out(submission.target).name}"


def _flags(options: Options, device: str) -> list[str]:
    flags = ["--device", device]
    names = (
        "steps",
        "epochs",
        "budget",
        "policy",
        "limit",
        "workers",
        "precision",
        "accumulate",
        "global_batch",
    )
    for name in (*names, "clip", "schedule", "warmup", "seed"):
        value = getattr(options, name)
        if value is not None:
            if name == "budget" and not isinstance(value, str):
                value = f"{value}s"
            flags.append(f"{_flag(name)}={value}")
    if options.optimizers:
        flags.append(f"--optimizers={','.join(options.optimizers)}")
    return flags + [f"--prior={prior}" for prior in options.prior]
