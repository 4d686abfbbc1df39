"""What a run is asked to do, from what the user gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoopt import policy as policies
from autoopt.journal import has_run, replay
from autoopt.policy import Policy
from autoopt.records import Cluster, Flags, RunStarted
from autoopt.session import Observer, Silent
from autoopt.units import parse_duration

DEFAULT_BUDGET = "5m"
DEFAULT_POLICY = "balanced"


@dataclass
class Job:
    """What a run was asked to do, and who watches.

    Args:
        target: the user's file or package.module:function; for `choose` a name.
        out: the run's folder.
        budget: wall-clock seconds, start to end.
        name: what its report calls it; the folder's name unless given.
        cluster: where trials run; on this machine unless given.
        began: Unix time at which the clock started; now unless given.
        prior: folders of earlier runs that inform this one.
    """

    target: str
    out: Path
    budget: float
    policy: Policy
    flags: Flags
    arguments: list[str] = field(default_factory=list)
    optimizers: list[str] | None = None
    seed: int = 0
    device: str = "auto"
    workers: int | None = None
    cluster: Cluster | None = None
    resume: bool = False
    accept_changes: bool = False
    dry_run: bool = False
    began: float | None = None
    name: str | None = None
    prior: list[Path] = field(default_factory=list)
    observer: Observer = field(default_factory=Silent)


def make_job(
    target: str,
    *,
    out: Path,
    resume: bool,
    budget: str | float | None,
    policy: str | Path | None,
    limit: str | None = None,
    flags: Flags,
    arguments: Sequence[str],
    optimizers: Sequence[str] | None,
    seed: int | None,
    device: str | None,
    workers: int | None,
    name: str | None = None,
    cluster: Cluster | None = None,
    **rest: Any,
) -> Job:
    """A job from what was given; what was not (`None`) is a default, or what the resumed run was started with."""
    before = started(out) if resume else None
    if before is not None:
        unset = flags == Flags()
        return Job(
            target,
            out,
            budget=before.budget_seconds if budget is None else parse_duration(budget),
            policy=(
                Policy.model_validate(before.policy) if policy is None else policies.load(str(policy))
            ).limited(limit),
            flags=before.flags if unset else flags,
            arguments=list(arguments) or before.arguments,
            optimizers=before.optimizers if optimizers is None else list(optimizers),
            seed=before.seed if seed is None else seed,
            device=before.device if device is None else device,
            workers=(before.workers or None) if workers is None else workers,
            name=name or before.name,
            cluster=before.cluster if cluster is None else cluster,
            resume=True,
            **rest,
        )
    return Job(
        target,
        out,
        budget=parse_duration(DEFAULT_BUDGET if budget is None else budget),
        policy=policies.load(str(policy or DEFAULT_POLICY)).limited(limit),
        flags=flags,
        arguments=list(arguments),
        optimizers=None if optimizers is None else list(optimizers),
        seed=seed or 0,
        device=device or "auto",
        workers=workers,
        name=name,
        cluster=cluster,
        resume=resume,
        **rest,
    )


def started(out: Path) -> RunStarted | None:
    """How the run in a folder was started; `None` when there is none."""
    if not has_run(out):
        return None
    return next((e for e in replay(out) if isinstance(e, RunStarted)), None)


def default_out(target: str) -> Path:
    """autoopt-out/<name>: the file's stem, or module.function."""
    path = Path(target)
    if path.suffix != ".py":
        return Path("autoopt-out") / target.replace(":", ".")
    return Path("autoopt-out") / path.stem
