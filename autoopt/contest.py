"""Who takes part in a run, and the planner that lets them compete."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoopt.errors import OptimizerUnavailable, UsageError
from autoopt.optim import registry
from autoopt.optim.spec import OptimSpec
from autoopt.policy import Candidate, Policy
from autoopt.records import BASELINE, Hyper, Plan, TrialResult, WorkloadReport
from autoopt.tuning import knowledge, options, score
from autoopt.tuning.arm import Arm
from autoopt.tuning.belief import Prior
from autoopt.tuning.earlier import Earlier
from autoopt.tuning.knowledge import Knowledge
from autoopt.tuning.limits import Limits
from autoopt.tuning.plan import Costs, describe
from autoopt.tuning.planner import Planner
from autoopt.units import parse_bytes, parse_seconds

_LAST = ("adamw", "sgd")
"""Cut last: no comparison is worth much without them."""


@dataclass(frozen=True)
class Entry:
    """The optimizers of a run.

    Args:
        policy: with the user's own class among the candidates.
        specs: those that can be used here, the ones to keep longest first.
        cut: optimizer -> why it cannot be used.
    """

    policy: Policy
    specs: dict[str, OptimSpec]
    cut: dict[str, str]


def enter(policy: Policy, report: WorkloadReport, *, named: bool) -> Entry:
    """The usable optimizers: the user's own class, AdamW and SGD first, then in the policy's order.

    Args:
        named: the user named the optimizers; then none is added.

    Raises:
        UsageError: none can be used; each with its reason.
    """
    own = report.baseline.registry_name
    if own is not None and own not in policy.candidates and not named:
        policy = policy.model_copy(update={"candidates": {own: Candidate(), **policy.candidates}})
    first = [n for n in (own, *_LAST) if n is not None and n in policy.candidates]
    specs, cut = dict[str, OptimSpec](), dict[str, str]()
    for name in dict.fromkeys([*first, *policy.candidates]):
        if name in report.unavailable:
            cut[name] = report.unavailable[name]
            continue
        try:
            specs[name] = registry.get(name)
        except OptimizerUnavailable as error:  # of a package that is not installed
            cut[name] = error.message
    if not specs:
        reasons = "; ".join(f"{n}: {why}" for n, why in cut.items())
        raise UsageError(
            f"None of the optimizers can be used: {reasons}.",
            "`autoopt optimizers` lists those that are installed.",
        )
    return Entry(policy, specs, cut)


def prepare(
    entry: Entry,
    report: WorkloadReport,
    *,
    budget: float,
    begin: float,
    deadline: float,
    workers: int,
    seed: int,
    done: list[TrialResult],
    known: Knowledge | None = None,
    earlier: Sequence[Earlier] = (),
) -> tuple[Planner, Plan]:
    """The planner of a run, and the plan to show before anything is spent.

    Args:
        budget: seconds, start to end.
        begin: seconds since the start at which trials begin.
        deadline: seconds since the start at which the last trial must have ended.
        workers: trials at once.
        done: trials of earlier sittings; they decide how a metric is compared.
        known: of other networks; what is shipped unless given.
        earlier: runs whose trials inform the belief.
    """
    policy, specs, settings = entry.policy, entry.specs, report.settings
    costs = Costs.of(report, workers)
    layout, plan = describe(
        specs,
        settings.steps,
        costs,
        max(0.0, deadline - begin),
        budget,
        policy.confirm,
        policy.max_optimizers,
        entry.cut,
    )
    plan = plan.model_copy(update={"begin_seconds": begin})
    own = _own(report, specs)
    extra = options.of(policy.tune, report)
    arms = dict[str, Arm]()
    if report.baseline.source != "default" or "adamw" not in report.unavailable:
        arms[BASELINE] = Arm(BASELINE, {}, {})  # theirs as they have it, clipping, warm-up and batch too
    for name in layout.optimizers:
        candidate = policy.candidates[name]
        start, ranges = candidate.start(specs[name]), candidate.ranges(specs[name])
        if own and own[0] == name and report.baseline.source == "configure_optimizers":
            # What the user has set beside the rate stays until trials show better.
            kept = {k: v for k, v in own[1].items() if k != "lr" and k in start}
            if _without_momentum(name, kept):
                del kept["momentum"]  # torch's default, and none that Nesterov's momentum could be
            start |= kept
        arms[name] = Arm(
            name, start | extra.start, ranges, ladders=options.ladders_of(specs[name], extra.ladders)
        )
    usual = {name: math.log10(arm.start["lr"]) for name, arm in arms.items() if "lr" in arm.start}
    # One that trains under other options is nothing that is believed of its class.
    # Nor is one that goes on with its state anything that is believed of one that starts. And the rates that suit
    # SGD without momentum are some ten times those of the SGD that we know.
    if (
        own is None
        or own[0] not in arms
        or extra.start
        or report.checkpoint is not None
        or _without_momentum(*own)
    ):
        own, usual[BASELINE] = None, math.log10(report.baseline.hyper.get("lr") or 1e-3)
    planner = Planner(
        arms,
        specs,
        layout,
        plan,
        costs,
        score.make(_no_training(report), settings.metric, done, settings.metric_best),
        Prior(knowledge.shipped() if known is None else known, usual, report.trainable),
        total=settings.steps,
        deadline=deadline,
        begin=begin,
        seed=seed,
        own=own,
        chosen_by_user=report.baseline.source == "configure_optimizers",
        epoch=_epoch(report),
        no_decay=list(policy.no_decay),
        limits=limits(policy),
        timed=report.relative_step_seconds,
        rounds_timed={c.optimizer: c.rounds for c in report.step_costs.optimizers}
        if report.step_costs
        else {},
        earlier=earlier,
        paired=report.pairing != "none",
        midrun=report.checkpoint is not None,
    )
    return planner, plan


def _no_training(report: WorkloadReport) -> float:
    """The loss at and above which a trial counts as diverged: that before training.

    A half-trained net may end a little above where it began, so there it is twice that.
    """
    loss = report.initial_loss
    return loss if report.checkpoint is None else loss + abs(loss)


def _own(report: WorkloadReport, specs: dict[str, OptimSpec]) -> tuple[str, Hyper] | None:
    """The user's own optimizer as one of ours, where its class is among them."""
    name = report.baseline.registry_name
    if name is None or name not in specs or "lr" not in report.baseline.hyper:
        return None
    return name, dict(report.baseline.hyper)


def _without_momentum(name: str, hyper: Hyper) -> bool:
    """Whether these are settings of a plain SGD, which is not the one of our table."""
    return name == "sgd" and hyper.get("momentum") == 0


def _epoch(report: WorkloadReport) -> int | None:
    """Optimizer steps of an epoch."""
    batches = report.batches_per_epoch
    return None if batches is None else max(1, batches // report.settings.accumulate)


def limits(policy: Policy) -> Limits:
    """The policy's limits in bytes and seconds; "2x" is relative to AdamW's step."""
    memory, step = policy.limits.memory, policy.limits.step_time
    relative = float(step[:-1]) if isinstance(step, str) and step.endswith("x") else None
    return Limits(
        memory=parse_bytes(memory) if memory is not None else None,
        step_time=parse_seconds(step) if step is not None and relative is None else None,
        step_time_relative=relative,
    )
