"""One sitting of a run, from job to recommendation, on a runner that trains nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from autoopt import policy as policies
from autoopt.errors import (
    BudgetError,
    DiskFull,
    NoResult,
    RunError,
    UnknownOptimizer,
    UsageError,
    UserCodeError,
    WorkerError,
    WorkloadError,
)
from autoopt.job import Job, make_job
from autoopt.journal import replay
from autoopt.records import (
    BASELINE,
    Event,
    Flags,
    Noted,
    Outcome,
    Plan,
    PlanMade,
    Recommendation,
    RunEnded,
    RunResumed,
    RunStarted,
    StartedFrom,
    TrialFinished,
    TrialResult,
    TrialSpec,
    TrialStarted,
    WorkloadReport,
)
from autoopt.session import Silent
from autoopt.sitting import run_job
from autoopt.trials.inprocess import InProcess
from autoopt.trials.runner import Progress
from autoopt.trials.testing import FakeEngine, fake_report

if TYPE_CHECKING:
    from autoopt.workload import Workload

BUDGET = 8.0
"""Seconds: room for some thirty trials of the fake engine, whose real run takes one."""


class Engine(FakeEngine):
    """A fake engine that counts, and whose report and trials can be changed."""

    def __init__(self) -> None:
        super().__init__()
        self.report: dict[str, Any] = {"modules": {"model.py": "a" * 64}}
        self.executed: list[TrialSpec] = []
        self.before: Callable[[TrialSpec], None] = lambda spec: None
        self.closed = 0

    def load(self, *, full: bool) -> WorkloadReport | None:
        return fake_report("model.py", Flags()).model_copy(update=self.report)

    def execute(self, spec: TrialSpec) -> Iterator[Progress | TrialResult]:
        self.executed.append(spec)
        self.before(spec)
        return super().execute(spec)

    def close(self) -> None:
        self.closed += 1


@dataclass
class Seen(Silent):
    events: list[Event] = field(default_factory=list)

    def event(self, event: Event) -> None:
        self.events.append(event)


def job(out: Path, **changes: Any) -> Job:
    given: dict[str, Any] = {
        "target": "model.py",
        "out": out / "run",
        "budget": BUDGET,
        "policy": policies.load("balanced"),
        "flags": Flags(),
        "optimizers": ["adamw", "sgd"],
        "device": "cpu",
    }
    return Job(**given | changes)


def go(asked: Job, engine: Engine | None = None) -> Recommendation | Plan:
    return run_job(asked, runner=runner(engine or Engine()))


def runner(engine: Engine) -> InProcess:
    return InProcess(cast("Workload", None), engine=lambda _workload: engine)


def stop_after(count: int) -> Callable[[TrialSpec], None]:
    """As if somebody pressed Ctrl-C twice in that trial."""

    def check(spec: TrialSpec) -> None:
        if spec.id > count:
            raise KeyboardInterrupt

    return check


# --- a whole run --------------------------------------------------------------------------------------------


def test_a_run_is_told_in_order_and_written(tmp_path: Path) -> None:
    engine, seen = Engine(), Seen()
    found = go(job(tmp_path, observer=seen), engine)
    assert isinstance(found, Recommendation)
    assert found.complete
    assert found.name == "run", "its folder's"
    assert engine.closed == 1
    events = replay(tmp_path / "run")
    assert events == seen.events
    kinds = [e.kind for e in events]
    assert kinds[:4] == ["run_started", "workload_loaded", "plan_made", "trial_started"]
    assert kinds[-1] == "run_ended"
    assert kinds.count("trial_started") == kinds.count("trial_finished") == len(engine.executed)
    assert Recommendation.load(tmp_path / "run") == found
    assert (tmp_path / "run" / "train.py").exists()
    assert (tmp_path / "run" / "report.html").exists()
    assert set(found.ledger) >= {"import", "train", "idle", "wall"}
    assert found.provenance["budget_seconds"] == BUDGET


def test_a_dry_run_ends_with_the_plan_and_leaves_nothing(tmp_path: Path) -> None:
    engine, seen = Engine(), Seen()
    go(job(tmp_path))
    before = replay(tmp_path / "run")
    plan = go(job(tmp_path, dry_run=True, budget=25.0, observer=seen), engine)
    assert isinstance(plan, Plan)
    assert plan.budget_seconds == 25.0
    assert [stage.name for stage in plan.stages] == ["race", "confirm"]
    assert engine.executed == []
    last = seen.events[-1]
    assert isinstance(last, RunEnded)
    assert (last.how, last.message) == ("finished", "dry run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert replay(tmp_path / "run") == before, "an earlier run does not make room for a plan"


def test_only_the_named_optimizers_and_the_users_own_run(tmp_path: Path) -> None:
    engine = Engine()
    go(job(tmp_path, optimizers=["lion"]), engine)
    assert {spec.optimizer for spec in engine.executed} == {"lion", BASELINE}


def test_an_optimizer_that_cannot_be_used_here_is_cut_with_its_reason(tmp_path: Path) -> None:
    engine = Engine()
    engine.report["unavailable"] = {"sgd": "no sparse gradients"}
    found = go(job(tmp_path), engine)
    assert isinstance(found, Recommendation)
    assert found.cut == {"sgd": "no sparse gradients"}
    assert "sgd" not in {spec.optimizer for spec in engine.executed}


def test_when_none_can_be_used_each_reason_is_told(tmp_path: Path) -> None:
    engine = Engine()
    engine.report["unavailable"] = {"sgd": "no sparse gradients", "adamw": "too large"}
    with pytest.raises(UsageError, match=r"adamw: too large; sgd: no sparse gradients"):
        go(job(tmp_path), engine)
    assert engine.closed == 1


def test_the_users_own_class_joins_the_candidates_unless_others_were_named(tmp_path: Path) -> None:
    own = fake_report("model.py", Flags()).baseline.model_copy(update={"registry_name": "adagrad"})
    for optimizers, joins in ((None, True), (["adamw"], False)):
        engine = Engine()
        engine.report["baseline"] = own
        policy = policies.load("balanced").restrict(["adamw", "sgd"])
        go(job(tmp_path, policy=policy, optimizers=optimizers), engine)
        assert ("adagrad" in {spec.optimizer for spec in engine.executed}) is joins


def test_the_policys_groups_and_the_seed_are_in_every_trial(tmp_path: Path) -> None:
    engine = Engine()
    policy = policies.load("balanced").model_copy(update={"no_decay": ["bias"]})
    go(job(tmp_path, policy=policy, seed=5, budget=15.0), engine)  # enough for a confirmation
    assert {tuple(spec.no_decay) for spec in engine.executed} == {("bias",)}
    assert min(spec.seed for spec in engine.executed) == 5
    raced = [spec for spec in engine.executed if spec.stage != "confirm"]
    first: dict[str, int] = {}
    for spec in raced:
        first.setdefault(f"{spec.optimizer} {spec.hyper} {spec.steps}", spec.seed)
    assert set(first.values()) == {5}
    # A race may repeat a configuration, on seeds of its own: those of the confirmation stay fresh.
    fresh = {spec.seed for spec in engine.executed if spec.stage == "confirm"}
    assert fresh
    assert max(spec.seed for spec in raced) < min(fresh)


def test_an_unknown_optimizer_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UnknownOptimizer):
        go(job(tmp_path, optimizers=["adamww"]))
    assert not (tmp_path / "run").exists()


def test_an_earlier_run_is_kept_and_said(tmp_path: Path) -> None:
    go(job(tmp_path))
    seen = Seen()
    go(job(tmp_path, observer=seen))
    note = next(e.text for e in seen.events if isinstance(e, Noted))
    assert str(tmp_path / "run.1") in note
    assert replay(tmp_path / "run.1")


def test_an_error_while_loading_is_an_event_and_closes_the_runner(tmp_path: Path) -> None:
    class Broken(Engine):
        def load(self, *, full: bool) -> WorkloadReport | None:
            raise UserCodeError("loss() raised KeyError: 'x'", where="model.py:3")

    engine = Broken()
    with pytest.raises(UserCodeError):
        go(job(tmp_path), engine)
    last = replay(tmp_path / "run")[-1]
    assert isinstance(last, RunEnded)
    assert (last.how, last.message) == ("failed", "loss() raised KeyError: 'x'")
    assert engine.closed == 1


def test_a_run_without_a_trial_is_replaced_not_kept(tmp_path: Path) -> None:
    class Broken(Engine):
        def load(self, *, full: bool) -> WorkloadReport | None:
            raise UserCodeError("loss() raised KeyError: 'x'", where="model.py:3")

    for _ in range(2):
        with pytest.raises(UserCodeError):
            go(job(tmp_path), Broken())
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert sum(e.kind == "run_started" for e in replay(tmp_path / "run")) == 1


def test_a_file_that_is_not_there_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="does not exist"):
        run_job(job(tmp_path, target=str(tmp_path / "model.py")))
    assert list(tmp_path.iterdir()) == []


def test_a_start_up_longer_than_the_budget_is_told_as_that(tmp_path: Path) -> None:
    class Slow(Engine):
        def load(self, *, full: bool) -> WorkloadReport | None:
            raise WorkerError("Loading took longer than 8 s and was stopped.")

    asked = job(tmp_path, began=time.time() - BUDGET - 1)
    with pytest.raises(BudgetError, match="longer than the budget of 8 s"):
        go(asked, Slow())
    with pytest.raises(WorkerError):
        go(job(tmp_path), Slow())


def test_trials_that_all_fail_end_the_run_with_the_reason(tmp_path: Path) -> None:
    def fail(spec: TrialSpec) -> None:
        raise ValueError("the user's mistake")

    engine = Engine()
    engine.before = fail
    with pytest.raises(NoResult, match="the user's mistake"):
        go(job(tmp_path), engine)
    last = replay(tmp_path / "run")[-1]
    assert isinstance(last, RunEnded)
    assert last.how == "failed"


def test_a_disk_that_fills_up_at_the_end_costs_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise DiskFull(f"The disk is full: {path} could not be written.", "Free some space.")

    with monkeypatch.context() as patched:
        patched.setattr("autoopt.files.write_text", full)
        with pytest.raises(DiskFull) as caught:
            go(job(tmp_path))
    assert "with --resume writes the rest" in caught.value.hint
    engine = Engine()
    assert go(resumed(tmp_path), engine).complete
    assert (tmp_path / "run" / "recommendation.yaml").exists()


def test_there_is_no_run_to_resume(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run to resume"):
        go(resumed(tmp_path))


# --- going on -----------------------------------------------------------------------------------------------


def interrupted(tmp_path: Path, after: int = 6, engine: Engine | None = None) -> list[TrialResult]:
    """A run that was stopped at once in the midst of a trial; what it had finished."""
    engine = engine or Engine()
    engine.before = stop_after(after)
    with pytest.raises(KeyboardInterrupt):
        go(job(tmp_path), engine)
    assert engine.closed == 1
    events = replay(tmp_path / "run")
    last = events[-1]
    assert isinstance(last, RunEnded)
    assert last.how == "interrupted"
    return [e.result for e in events if isinstance(e, TrialFinished)]


def resumed(tmp_path: Path, **changes: Any) -> Job:
    given: dict[str, Any] = dict.fromkeys(("budget", "policy", "optimizers", "seed", "device", "workers"))
    given |= {"out": tmp_path / "run", "resume": True, "flags": Flags(), "arguments": []}
    return make_job("model.py", **given | changes)


def test_a_resume_runs_what_is_missing_and_nothing_twice(tmp_path: Path) -> None:
    before = interrupted(tmp_path)
    assert len(before) == 6
    engine = Engine()
    found = go(resumed(tmp_path), engine)
    assert isinstance(found, Recommendation)
    assert found.complete

    def identity(spec: TrialSpec) -> tuple[Any, ...]:
        return spec.optimizer, tuple(sorted(spec.hyper.items())), spec.steps, spec.seed

    old = {identity(r.spec) for r in before}
    assert engine.executed
    assert not old & {identity(spec) for spec in engine.executed}
    assert found.provenance["trials"] == 6 + len(engine.executed)
    events = replay(tmp_path / "run")
    plans = [e.plan for e in events if isinstance(e, PlanMade)]
    assert plans[0] == plans[1], "what was shown holds"
    finished = [e.result.spec.id for e in events if isinstance(e, TrialFinished)]
    assert len(set(finished)) == len(finished)
    assert min(spec.id for spec in engine.executed) > max(r.spec.id for r in before)


def test_time_already_spent_counts(tmp_path: Path) -> None:
    interrupted(tmp_path)
    path = tmp_path / "run" / "events.jsonl"
    lines = path.read_text().splitlines()
    # The interruption came 99 s after the start: nothing is left of the budget.
    begin = next(e for e in replay(tmp_path / "run") if isinstance(e, RunStarted)).at
    late = RunEnded(at=begin + 99.0, how="interrupted", spent_seconds=99.0)
    path.write_text("\n".join([*lines[:-1], late.model_dump_json()]) + "\n")
    engine = Engine()
    found = go(resumed(tmp_path), engine)
    assert engine.executed == []
    assert isinstance(found, Recommendation)
    assert found.ledger["wall"] >= 99.0
    resume = next(e for e in replay(tmp_path / "run") if isinstance(e, RunResumed))
    assert resume.spent_seconds == pytest.approx(99.0)


def test_a_finished_run_resumed_gives_the_same_answer(tmp_path: Path) -> None:
    first = go(job(tmp_path))
    engine = Engine()
    second = go(resumed(tmp_path), engine)
    assert isinstance(first, Recommendation)
    assert isinstance(second, Recommendation)
    assert len(engine.executed) <= 2
    assert second.recommendation.optimizer == first.recommendation.optimizer


def test_changes_are_refused_unless_accepted(tmp_path: Path) -> None:
    interrupted(tmp_path)
    with pytest.raises(RunError, match="seed: 0 -> 3"):
        go(resumed(tmp_path, seed=3))
    engine = Engine()
    engine.report["modules"] = {"model.py": "b" * 64}
    with pytest.raises(RunError, match=r"model\.py was edited"):
        go(resumed(tmp_path), engine)
    assert engine.executed == []
    assert engine.closed == 1
    found = go(resumed(tmp_path, seed=3, accept_changes=True), engine)
    assert isinstance(found, Recommendation)
    assert engine.executed
    assert [e.seed for e in replay(tmp_path / "run") if isinstance(e, RunStarted)] == [0, 3]
    go(resumed(tmp_path, seed=3), engine)  # what was accepted is no change any more


def test_another_checkpoint_is_refused_unless_accepted(tmp_path: Path) -> None:
    def half(digest: str, step: int = 50) -> Engine:
        engine = Engine()
        engine.report["checkpoint"] = StartedFrom(
            source="half.pt", step=step, whole=1050, optimizer=True, digest=digest
        )
        return engine

    interrupted(tmp_path, engine=half("a"))
    with pytest.raises(RunError, match=r"the checkpoint half\.pt has other content"):
        go(resumed(tmp_path), half("b"))
    with pytest.raises(RunError, match="would go on from step 60"):
        go(resumed(tmp_path, accept_changes=True), half("b", step=60))
    assert isinstance(go(resumed(tmp_path, accept_changes=True), half("b")), Recommendation)
    go(resumed(tmp_path), half("b"))  # what was accepted is no change any more


def test_what_costs_more_than_the_limits_is_not_recommended(tmp_path: Path) -> None:
    """A fake step takes 1 ms, AdamW's took 1.1 ms in the calibration."""
    policy = policies.load("balanced").limited("step_time=5x,memory=1GB")
    found = go(job(tmp_path, policy=policy))
    assert isinstance(found, Recommendation)
    assert not any("over the limit" in row.reason for row in found.optimizers)


@pytest.mark.parametrize("limit", ["step_time=0.5x", "step_time=0.1ms"])
def test_when_nothing_is_within_the_limits_the_nearest_is_named(tmp_path: Path, limit: str) -> None:
    with pytest.raises(NoResult, match=f"within the limit {limit}. The nearest is .*, 1 .*allowed") as caught:
        go(job(tmp_path, policy=policies.load("balanced").limited(limit)))
    assert caught.value.exit_code == 5
    assert "Raise the limit" in caught.value.hint


def test_a_cancelled_trial_runs_again(tmp_path: Path) -> None:
    interrupted(tmp_path, after=4)
    path = tmp_path / "run" / "events.jsonl"
    seen = replay(tmp_path / "run")
    flying = next(e.spec for e in seen if isinstance(e, TrialStarted) and e.spec.id == 5)
    cancelled = TrialFinished(at=seen[-1].at, result=TrialResult(spec=flying, outcome=Outcome.CANCELLED))
    with path.open("a") as stream:
        stream.write(cancelled.model_dump_json() + "\n")
    engine = Engine()
    go(resumed(tmp_path), engine)
    again = [
        s
        for s in engine.executed
        if (s.optimizer, s.hyper, s.steps) == (flying.optimizer, flying.hyper, flying.steps)
    ]
    assert again


def test_a_candidate_of_a_package_that_is_missing_is_cut_not_fatal(tmp_path: Path) -> None:
    policy = policies.load("balanced").restrict(["adamw"])
    more = {**policy.candidates, "bitsandbytes:AdamW8bit": policies.Candidate()}
    found = go(job(tmp_path, policy=policy.model_copy(update={"candidates": more}), optimizers=None))
    assert isinstance(found, Recommendation)
    assert "bitsandbytes" in found.cut["bitsandbytes:AdamW8bit"]
