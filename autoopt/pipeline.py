"""From a model to a recommendation: `profile()` for a file, `choose()` for objects."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt import __version__
from autoopt import policy as policies
from autoopt.errors import AutooptError, NoResult, UsageError
from autoopt.journal import (
    changed_settings,
    changed_workload,
    has_run,
    refuse_changes,
    replay,
    spent_seconds,
)
from autoopt.optim import registry
from autoopt.optim.spec import OptimSpec
from autoopt.policy import Policy
from autoopt.provenance import gather, ledger
from autoopt.recommend import Evidence, recommend
from autoopt.records import (
    BASELINE,
    Event,
    Flags,
    Noted,
    Plan,
    PlanMade,
    Recommendation,
    RunEnded,
    RunResumed,
    RunStarted,
    TrialFinished,
    WorkloadLoaded,
    WorkloadReport,
)
from autoopt.run import Run
from autoopt.session import Clock, Observer, Silent, Stop, hopeless, run_trials
from autoopt.trials.runner import Runner
from autoopt.tuning import score
from autoopt.tuning.arm import Arm
from autoopt.tuning.plan import Costs, describe
from autoopt.tuning.planner import Limits, Planner
from autoopt.units import parse_bytes, parse_duration

if TYPE_CHECKING:
    from torch import nn

REPORT_SECONDS = 2.5
"""Kept of the budget for choosing, writing the report and ending the workers."""
_LAST = ("adamw", "sgd")
"""Never cut before the others: no comparison is worth much without them."""


DEFAULT_BUDGET = "5m"
DEFAULT_POLICY = "balanced"


@dataclass
class Job:
    """What a run was asked to do, and who watches.

    Args:
        target: the user's file or package.module:function; for `choose` a name.
        out: the run's folder.
        budget: wall-clock seconds, start to end.
        began: Unix time at which the clock started; now unless given.
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
    resume: bool = False
    accept_changes: bool = False
    dry_run: bool = False
    began: float | None = None
    observer: Observer = field(default_factory=Silent)


def profile(
    target: str | Path,
    *,
    steps: int | None = None,
    epochs: float | None = None,
    budget: str | float | None = None,
    policy: str | Path | None = None,
    optimizers: Sequence[str] | None = None,
    device: str | None = None,
    workers: int | None = None,
    precision: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    accept_changes: bool = False,
    args: Sequence[str] = (),
    progress: bool = True,
    **flags: Any,
) -> Recommendation:
    """Chooses and tunes the optimizer for a model file; writes four files into `out`.

    Args:
        target: a file in the contract of `model.py`, or "package.module:function".
        steps: optimizer steps of the real run; else `epochs`, else the file's STEPS, else 1000.
        budget: wall-clock of everything, "90s", "5m" (the default), "1h30m" or seconds.
        policy: name of a shipped policy ("balanced" unless given), or a file.
        optimizers: registry names to compare; the policy's candidates unless given.
        device: "auto", "cpu", "cuda:0", or several: "cuda:0,cuda:1".
        workers: trials at once; as many as cores and memory allow unless given.
        out: folder; `autoopt-out/<name>` unless given.
        resume: go on with the run in `out`; what is not given here is what that run was started with.
        args: handed to the function of a "package.module:function" target.
        progress: whether to show plan and progress on stderr.
        flags: accumulate, clip, schedule, warmup: see `records.Flags`.

    Returns:
        The recommendation, which is also in `out`/recommendation.yaml.

    Raises:
        UsageError, WorkloadError, RunError, NoResult, WorkerError: see `autoopt.errors`.

    Example:
        >>> rec = autoopt.profile("examples/digits_mlp/model.py", budget="60s")  # doctest: +SKIP
        >>> optimizer, scheduler = rec.build(model)  # doctest: +SKIP
    """
    from autoopt.report import console

    job = make_job(
        str(target),
        out=Path(out) if out is not None else default_out(str(target)),
        resume=resume,
        budget=budget,
        policy=policy,
        flags=Flags(steps=steps, epochs=epochs, precision=precision, **flags),
        arguments=args,
        optimizers=optimizers,
        seed=seed,
        device=device,
        workers=workers,
        accept_changes=accept_changes,
    )
    with console.observer(quiet=not progress) as job.observer:
        found = run_job(job)
    assert isinstance(found, Recommendation)
    return found


def choose(
    model: nn.Module | Callable[..., nn.Module],
    train: Any,
    loss: Callable[..., Any] | None = None,
    *,
    val: Any = None,
    steps: int | None = None,
    budget: str | float = "5m",
    policy: str | Path = "balanced",
    optimizers: Sequence[str] | None = None,
    device: str = "auto",
    seed: int = 0,
    out: str | Path | None = None,
    configure_optimizers: Callable[..., Any] | None = None,
    progress: bool = True,
    **flags: Any,
) -> Recommendation:
    """Chooses and tunes the optimizer for objects in this process: closures and notebooks included.

    Trials run one at a time in this process. The model comes back untouched: weights, buffers, gradients, mode,
    hooks, every random generator.

    Args:
        model: an `nn.Module`, or a function that builds one (then trials differ in their initial weights).
        train: a loader, any re-iterable of batches, or a function that returns an iterator.
        loss: `loss(model, batch)`; not needed when `model(**batch)` returns `.loss`.
        val: held-out batches like `train`; a share of `train` is held out when it is missing.
        steps: optimizer steps of the real run (1000 unless given).
        budget, policy, optimizers, device, seed: as in `profile`.
        out: where to write the four files; nothing is kept unless given.
        configure_optimizers: today's optimizer, `configure_optimizers(model)`: the baseline.
        progress: whether to show plan and progress on stderr.

    Returns:
        The recommendation: `optimizer, scheduler = rec.build(model)`.

    Raises:
        UsageError, WorkloadError, NoResult: see `autoopt.errors`.
    """
    from autoopt.hardware import devices
    from autoopt.report import console
    from autoopt.trials.inprocess import InProcess
    from autoopt.workload import from_callables

    settings = Flags(steps=steps, **flags)
    chosen = devices(device)[0]
    job = Job(
        target="choose",
        out=Path(out) if out is not None else Path(),
        budget=parse_duration(budget),
        policy=policies.load(str(policy)),
        flags=settings,
        optimizers=list(optimizers) if optimizers is not None else None,
        seed=seed,
        device=chosen.name,
    )
    with ExitStack() as stack:
        job.observer = stack.enter_context(console.observer(quiet=not progress))
        if out is None:
            job.out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autoopt-"))) / "run"
        workload = from_callables(
            model=model,
            train=train,
            loss=loss,
            val=val,
            configure_optimizers=configure_optimizers,
            flags=settings,
            device=chosen.name,
        )
        stack.callback(workload.close)
        found = run_job(job, runner=InProcess(workload))
        assert isinstance(found, Recommendation)
        return found


def make_job(
    target: str,
    *,
    out: Path,
    resume: bool,
    budget: str | float | None,
    policy: str | Path | None,
    flags: Flags,
    arguments: Sequence[str],
    optimizers: Sequence[str] | None,
    seed: int | None,
    device: str | None,
    workers: int | None,
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
            policy=Policy.model_validate(before.policy) if policy is None else policies.load(str(policy)),
            flags=before.flags if unset else flags,
            arguments=list(arguments) or before.arguments,
            optimizers=before.optimizers if optimizers is None else list(optimizers),
            seed=before.seed if seed is None else seed,
            device=before.device if device is None else device,
            workers=(before.workers or None) if workers is None else workers,
            resume=True,
            **rest,
        )
    return Job(
        target,
        out,
        budget=parse_duration(DEFAULT_BUDGET if budget is None else budget),
        policy=policies.load(str(policy or DEFAULT_POLICY)),
        flags=flags,
        arguments=list(arguments),
        optimizers=None if optimizers is None else list(optimizers),
        seed=seed or 0,
        device=device or "auto",
        workers=workers,
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


def run_job(job: Job, runner: Runner | None = None) -> Recommendation | Plan:
    """Runs a job to its end; a `Plan` only for a dry run.

    Raises:
        AutooptError: with everything that was measured kept in the run's folder.
    """
    if job.optimizers is not None:
        job.policy = job.policy.restrict(job.optimizers)
    stop = Stop()
    with ExitStack() as stack:
        run = Run.open(job.out) if job.resume else Run.create(job.out, stay=_stay(job.target))
        stack.enter_context(run)
        past = run.events()
        spent = spent_seconds(past)
        clock = Clock(job.began, spent)
        events = _Events(run, job.observer)
        if past:
            refuse_changes(changed_settings(past, _started(job)), accept=job.accept_changes)
            events(RunResumed(at=time.time(), dropped_bytes=run.dropped_bytes, spent_seconds=spent))
        else:
            if run.moved is not None:
                job.observer.event(Noted(at=time.time(), text=f"the earlier run is kept in {run.moved}"))
            events(_started(job))
        try:
            own = runner or _pool(job, run)
            stack.callback(own.close)
            report = own.start()
            stack.enter_context(stop.listening())
            return _Session(job, run, events, clock, stop, own, report, past).go()
        except KeyboardInterrupt:
            _end(events, clock, "interrupted", "stopped at once")
            raise
        except AutooptError as error:
            _end(events, clock, "failed", error.message)
            raise


class _Events:
    """Appends to the run, then shows the observer."""

    def __init__(self, run: Run, observer: Observer) -> None:
        self._run, self._observer = run, observer

    def __call__(self, event: Event) -> None:
        self._run.append(event)
        self._observer.event(event)


class _Session:
    """One sitting of a run, after its workload is loaded."""

    def __init__(
        self,
        job: Job,
        run: Run,
        events: _Events,
        clock: Clock,
        stop: Stop,
        runner: Runner,
        report: WorkloadReport,
        past: list[Event],
    ) -> None:
        self.job, self.run, self.events, self.clock, self.stop = job, run, events, clock, stop
        self.runner, self.report, self.past = runner, report, past
        self.notes: list[str] = []

    def go(self) -> Recommendation | Plan:
        job, begin = self.job, self.clock()
        first = next((e for e in self.past if isinstance(e, WorkloadLoaded)), None)
        if first is not None:
            refuse_changes(changed_workload(self.past, self.report), accept=job.accept_changes)
            # The plan of the first sitting holds, so its measurements do too.
            self.report = first.report.model_copy(update={"seconds": self.report.seconds})
        self.events(WorkloadLoaded(at=time.time(), report=self.report))
        planner, plan = self._plan(begin)
        self.events(PlanMade(at=time.time(), plan=plan))
        if job.dry_run:
            self.events(
                RunEnded(at=time.time(), how="finished", spent_seconds=self.clock(), message="dry run")
            )
            return plan
        for event in self.past:
            if isinstance(event, TrialFinished):
                planner.tell(event.result)
        finished = run_trials(planner, self.runner, self.run, job.observer, self.clock, self.stop)
        if hopeless(planner.results):
            raise NoResult(f"Every trial fails: {planner.results[-1].message}", "Mend it, then run again.")
        recommendation = recommend(self._evidence(planner, finished))
        self._write(recommendation, planner)
        _end(self.events, self.clock, "finished" if finished else "interrupted", "")
        return recommendation

    def _plan(self, begin: float) -> tuple[Planner, Plan]:
        job, report = self.job, self.report
        earlier = next((e.plan for e in self.past if isinstance(e, PlanMade)), None)
        if earlier is not None and earlier.budget_seconds == job.budget:
            begin = earlier.begin_seconds
        deadline = job.budget - max(REPORT_SECONDS, 0.01 * job.budget)
        policy, specs, cut = self._candidates()
        costs = Costs.of(report, self.runner.slots)
        split = (policy.budget.screen, policy.budget.deepen, policy.budget.confirm)
        layout, plan = describe(
            specs,
            report.settings.steps,
            costs,
            max(0.0, deadline - begin),
            job.budget,
            split,
            policy.max_optimizers,
            cut,
        )
        plan = plan.model_copy(update={"begin_seconds": begin})
        arms = {BASELINE: Arm(BASELINE, {}, {})}
        for name in layout.optimizers:
            candidate = policy.candidates[name]
            arms[name] = Arm(name, candidate.start(specs[name]), candidate.ranges(specs[name]))
        if earlier is None and begin > 0.4 * job.budget:
            self.notes.append(f"start-up took {begin:.0f} s of the budget of {job.budget:.0f} s")
        done = [e.result for e in self.past if isinstance(e, TrialFinished)]
        planner = Planner(
            arms,
            specs,
            layout,
            plan,
            costs,
            score.make(report.initial_loss, report.settings.metric, done),
            total=report.settings.steps,
            deadline=deadline,
            begin=begin,
            seed=job.seed,
            no_decay=list(policy.no_decay),
            limits=_limits(policy),
        )
        return planner, plan

    def _candidates(self) -> tuple[Policy, dict[str, OptimSpec], dict[str, str]]:
        """Usable optimizers in the order in which they are kept: the user's own class, AdamW, SGD, the policy's."""
        policy, report, cut = self.job.policy, self.report, dict[str, str]()
        own = report.baseline.registry_name
        if own is not None and own not in policy.candidates and self.job.optimizers is None:
            policy = policy.model_copy(
                update={"candidates": {own: policies.Candidate(), **policy.candidates}}
            )
        order = [n for n in (own, *_LAST) if n in policy.candidates]
        order += [n for n in policy.candidates if n not in order]
        specs = {}
        for name in dict.fromkeys(n for n in order if n is not None):
            why = report.unavailable.get(name)
            if why is not None:
                cut[name] = why
            else:
                specs[name] = registry.get(name)
        if not specs:
            raise UsageError(
                "None of the optimizers can be used: " + "; ".join(f"{n}: {w}" for n, w in cut.items()) + ".",
                "`autoopt optimizers` lists those that are installed.",
            )
        return policy, specs, cut

    def _evidence(self, planner: Planner, finished: bool) -> Evidence:
        job = self.job
        return Evidence(
            name=job.out.name,
            report=self.report,
            policy=job.policy,
            specs=planner.specs,
            planner=planner,
            ledger=ledger(self.report, planner.results, self.runner.slots, self.clock(), planner.begin),
            provenance=gather(job.target, job.seed, planner.results, {"budget_seconds": job.budget}),
            complete=finished,
            notes=[*self.report.warnings, *self.notes],
        )

    def _write(self, recommendation: Recommendation, planner: Planner) -> None:
        from autoopt.files import write_text
        from autoopt.report import html, recipe, snippet

        write_text(self.run.recommendation, recipe.dump(recommendation))
        if self.report.kind != "callables":
            write_text(self.run.script, snippet.script(recommendation, self.run.folder))
        write_text(self.run.report, html.render(recommendation, planner.results))


def _started(job: Job) -> RunStarted:
    return RunStarted(
        at=job.began or time.time(),
        target=job.target,
        arguments=job.arguments,
        flags=job.flags,
        budget_seconds=job.budget,
        policy=job.policy.model_dump(mode="json"),
        optimizers=job.optimizers,
        seed=job.seed,
        device=job.device,
        workers=job.workers or 0,
        version=__version__,
    )


def _pool(job: Job, run: Run) -> Runner:
    from autoopt.hardware import devices, worker_environment, workers_for
    from autoopt.trials.pool import Pool

    chosen = devices(job.device)
    count = workers_for(chosen, job.workers)
    return Pool(
        job.target,
        job.arguments,
        job.flags,
        log_dir=run.logs,
        devices=[d.worker_name for d in chosen],
        workers=count.workers,
        threads=count.threads,
        environment=worker_environment(chosen),
    )


def _stay(target: str) -> list[Path]:
    path = Path(target)
    return [path] if path.suffix == ".py" else []


def _limits(policy: Policy) -> Limits:
    memory, step = policy.limits.memory, policy.limits.step_time
    relative = float(step[:-1]) if isinstance(step, str) else None
    return Limits(
        memory=parse_bytes(memory) if memory is not None else None,
        step_time=float(step) if step is not None and relative is None else None,
        step_time_relative=relative,
    )


def _end(events: _Events, clock: Clock, how: str, message: str) -> None:
    events(RunEnded(at=time.time(), how=how, spent_seconds=clock(), message=message))
