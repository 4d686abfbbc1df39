"""A sitting of a run: from a job to its recommendation, or to what was reached when somebody stopped it."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from autoopt import __version__, contest, priors
from autoopt.errors import (
    AutooptError,
    BudgetError,
    ClusterGone,
    DiskFull,
    NoResult,
    WorkerError,
    WorkloadError,
)
from autoopt.hardware.cpu import busy
from autoopt.job import Job
from autoopt.journal import (
    changed_settings,
    changed_workload,
    refuse_another_begin,
    refuse_changes,
    slots_used,
    spent_seconds,
)
from autoopt.occupancy import Occupancy
from autoopt.provenance import gather, ledger
from autoopt.recommend import Evidence, recommend
from autoopt.records import (
    Event,
    Noted,
    Plan,
    PlanMade,
    PriorTaken,
    Recommendation,
    RunEnded,
    RunResumed,
    RunStarted,
    TrialFinished,
    WorkloadLoaded,
    WorkloadReport,
)
from autoopt.run import Run
from autoopt.session import Clock, Observer, Stop, hopeless, run_trials
from autoopt.trials.runner import Runner
from autoopt.tuning.planner import Planner
from autoopt.workers import fit_memory, leased_devices, pool

REPORT_SECONDS = 2.5
"""Kept of the budget for choosing, writing the report and ending the workers."""
RESUME_SECONDS = 120.0
"""That a resume may take to load the model again, however little of the budget is left: what was measured is not lost."""
_LATE_START = 0.4
"""Share of the budget from which on a start-up is worth a word."""


def run_job(job: Job, runner: Runner | None = None) -> Recommendation | Plan:
    """Runs a job to its end; a `Plan` only for a dry run.

    Raises:
        AutooptError: with everything that was measured kept in the run's folder.
    """
    if runner is None:
        _refuse_missing(job.target)
    if job.optimizers is not None:
        job.policy = job.policy.restrict(job.optimizers)
    stop = Stop()
    with ExitStack() as stack:
        if (
            job.dry_run and not job.resume
        ):  # nothing is spent, so nothing is kept, and no earlier run makes room
            job.out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autoopt-"))) / "run"
        # Before the new run may take the place of an earlier one.
        taken = [] if job.resume else priors.take(job.prior)
        run = Run.open(job.out) if job.resume else Run.create(job.out, stay=_stay(job.target))
        stack.enter_context(run)
        past = run.events()
        spent = spent_seconds(past)
        clock = Clock(job.began, spent)
        events = _Events(run, job.observer)
        if past:
            changes = changed_settings(past, _started(job))
            refuse_changes(changes, accept=job.accept_changes)
            priors.refuse_others(job.prior, past)
            taken = [e for e in past if isinstance(e, PriorTaken)]
            events(RunResumed(at=time.time(), dropped_bytes=run.dropped_bytes, spent_seconds=spent))
            if changes:  # accepted: from now on they are what the run is compared with
                events(_started(job).model_copy(update={"at": time.time()}))
        else:
            if run.moved is not None:
                job.observer.event(Noted(at=time.time(), text=f"the earlier run is kept in {run.moved}"))
            events(_started(job))
            taken = [priors.followed(one, job.out, run.moved) for one in taken]
            for one in taken:
                events(one)
        try:
            # On a cluster it is Ray that counts what is taken.
            chosen = leased_devices(job, stack) if runner is None and job.cluster is None else []
            left = job.budget - clock()
            # Looked at before workers of ours make a load.
            crowded = busy() if runner is None and job.cluster is None else ""
            own = runner or pool(job, run.logs, chosen, max(left, RESUME_SECONDS) if past else left)
            stack.callback(own.close)
            report = _started_in_time(own, job, clock)
            notes = [crowded] if crowded else []
            notes += fit_memory(job, own, report, chosen)
            stack.enter_context(stop.listening())
            return _Session(job, run, events, clock, stop, own, report, past, notes, taken).go()
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
        notes: list[str],
        taken: list[PriorTaken],
    ) -> None:
        self.job, self.run, self.events, self.clock, self.stop = job, run, events, clock, stop
        self.runner, self.report, self.past = runner, report, past
        self.notes, self.taken = notes, taken

    def go(self) -> Recommendation | Plan:
        job, begin = self.job, self.clock()
        first = next((e for e in self.past if isinstance(e, WorkloadLoaded)), None)
        if first is not None:
            now = self.report
            refuse_another_begin(first.report, now)
            refuse_changes(changed_workload(self.past, now), accept=job.accept_changes)
            # The plan of the first sitting holds, so its measurements do too.
            update: dict[str, Any] = {"seconds": now.seconds, "modules": now.modules}
            update |= {"versions": now.versions, "checkpoint": now.checkpoint}
            self.report = first.report.model_copy(update=update)
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
        occupancy = Occupancy(self.clock)
        finished = run_trials(planner, self.runner, self.run, job.observer, self.clock, self.stop, occupancy)
        self.events(occupancy.used())
        if hopeless(planner.results):
            raise NoResult(f"Every trial fails: {planner.results[-1].message}", "Mend it, then run again.")
        recommendation = recommend(self._evidence(planner, finished))
        try:
            self._write(recommendation, planner)
        except DiskFull as error:
            error.hint = (
                "Its trials are kept: free some space, then the same command with --resume writes the rest."
            )
            raise
        _end(self.events, self.clock, "finished" if finished else "interrupted", "")
        return recommendation

    def _plan(self, begin: float) -> tuple[Planner, Plan]:
        job = self.job
        earlier = next((e.plan for e in self.past if isinstance(e, PlanMade)), None)
        if earlier is not None and earlier.budget_seconds == job.budget:
            begin = earlier.begin_seconds
        elif begin > _LATE_START * job.budget:
            self.notes.append(f"start-up took {begin:.0f} s of the budget of {job.budget:.0f} s")
        self.told = priors.tell(self.taken, self.report, job.seed, job.arguments)
        self.entry = contest.enter(job.policy, self.report, named=job.optimizers is not None)
        return contest.prepare(
            self.entry,
            self.report,
            budget=job.budget,
            begin=begin,
            deadline=job.budget - max(REPORT_SECONDS, 0.01 * job.budget),
            workers=self.runner.slots,
            seed=job.seed,
            done=[e.result for e in self.past if isinstance(e, TrialFinished)],
            earlier=self.told,
        )

    def _evidence(self, planner: Planner, finished: bool) -> Evidence:
        job = self.job
        more: dict[str, Any] = {"budget_seconds": job.budget, "arguments": job.arguments}
        if job.flags.checkpoint:
            more["checkpoint"] = job.flags.checkpoint
        if (cluster := getattr(self.runner, "about", None)) is not None:
            more["cluster"] = cluster
        if self.taken:
            more["prior"] = priors.summary(self.taken, self.told, planner)
        return Evidence(
            name=job.name or job.out.name,
            report=self.report,
            policy=self.entry.policy,
            specs=planner.specs,
            planner=planner,
            ledger=ledger(self.report, planner.results, self.runner.slots, self.clock(), planner.begin),
            provenance=gather(job.target, job.seed, planner.results, more),
            complete=finished,
            notes=[*self.report.warnings, *self.notes, *getattr(self.runner, "notes", [])],
            slots=slots_used(self.run.events()),
        )

    def _write(self, recommendation: Recommendation, planner: Planner) -> None:
        from autoopt.files import write_text
        from autoopt.report import html, loop_script, recipe
        from autoopt.report import script as scripts
        from autoopt.report.snippets import facts

        write_text(self.run.recommendation, recipe.dump(recommendation))
        script = None
        if not facts.in_program(recommendation):
            write = loop_script.script if self.report.kind == "own loop" else scripts.script
            script = write(recommendation, self.run.folder)
            write_text(self.run.script, script)
        write_text(self.run.report, html.render(recommendation, planner.results, script))


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
        cluster=job.cluster,
        version=__version__,
        name=job.name,
    )


def _refuse_missing(target: str) -> None:
    """A file that is not there is told before a folder is made and workers are started."""
    file = target.rpartition(":")[0] if ".py:" in target else target
    if file.endswith(".py") and not Path(file).is_file():
        raise WorkloadError(
            f"{file} does not exist.", "Give the path of a model.py; `autoopt init` writes one."
        )


def _started_in_time(runner: Runner, job: Job, clock: Clock) -> WorkloadReport:
    """Loads the workload; a start-up that eats the whole budget is told as what it is."""
    try:
        return runner.start()
    except WorkerError as error:
        if clock() < job.budget or isinstance(error, ClusterGone):
            raise
        raise BudgetError(
            f"Start-up alone took longer than the budget of {job.budget:.0f} s.",
            "The first start after an installation is slow: run it again, or give a larger --budget.",
        ) from error


def _stay(target: str) -> list[Path]:
    path = Path(target)
    return [path] if path.suffix == ".py" else []


def _end(events: _Events, clock: Clock, how: str, message: str) -> None:
    events(RunEnded(at=time.time(), how=how, spent_seconds=clock(), message=message))
