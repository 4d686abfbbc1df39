"""The loop between planner and runner: on a runner in simulated time, and on real workers with a fake engine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from autoopt.occupancy import Occupancy
from autoopt.records import (
    Event,
    Outcome,
    StageEnded,
    TrialFinished,
    TrialResult,
    TrialSpec,
    TrialStarted,
    WorkloadReport,
)
from autoopt.run import Run
from autoopt.session import Clock, Silent, Stop, hopeless, run_trials
from autoopt.trials.pool import Pool
from autoopt.trials.runner import Progress
from autoopt.trials.testing import FAKE_ENGINE, spec
from autoopt.tuning.planner import Planner
from tests.tuning.simulated import Machine, Surface, report

SURFACES = {"adamw": Surface(0.3, -2.5), "sgd": Surface(0.5, -1, edge=-0.3), "adan": Surface(0.25, -2)}


@dataclass
class Simulated:
    """A runner whose trials take the machine's seconds, on a clock that only `wait` moves."""

    machine: Machine
    endless: bool = False
    now: float = 0.0
    flying: dict[int, tuple[float, TrialResult]] = field(default_factory=dict)

    @property
    def slots(self) -> int:
        return self.machine.workers

    def start(self) -> WorkloadReport:
        return report(self.machine.steps)

    def clock(self) -> float:
        return self.now

    def idle(self) -> list[int]:
        return [slot for slot in range(self.slots) if slot not in self.flying]

    def submit(self, slot: int, trial: TrialSpec) -> None:
        result = self.machine.result(trial)
        seconds = float("inf") if self.endless else result.seconds["total"]
        self.flying[slot] = (self.now + seconds, result)

    def wait(self, timeout: float) -> list[Progress | TrialResult]:
        slot, (end, result) = min(self.flying.items(), key=lambda item: item[1][0])
        if end > self.now + timeout:
            self.now += timeout
            return [Progress(slot, result.spec.id, 1, result.spec.steps, 1.0)]
        self.now = max(self.now, end)
        del self.flying[slot]
        return [result]

    def cancel(self) -> list[TrialResult]:
        specs = [result.spec for _, result in self.flying.values()]
        self.flying.clear()
        return [TrialResult(spec=s, outcome=Outcome.CANCELLED) for s in specs]

    def close(self) -> None:
        self.cancel()


@dataclass
class Witness(Silent):
    """Remembers what it was shown; may do something at each event."""

    then: Callable[[Event], None] = lambda event: None
    events: list[Event] = field(default_factory=list)
    signs: list[Progress] = field(default_factory=list)
    ticks: list[float] = field(default_factory=list)

    def event(self, event: Event) -> None:
        self.events.append(event)
        self.then(event)

    def progress(self, progress: Progress) -> None:
        self.signs.append(progress)

    def tick(self, elapsed: float) -> None:
        self.ticks.append(elapsed)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run.create(tmp_path / "run") as run:
        yield run


def started(run: Run) -> list[TrialSpec]:
    return [e.spec for e in run.events() if isinstance(e, TrialStarted)]


def finished(run: Run) -> list[TrialResult]:
    return [e.result for e in run.events() if isinstance(e, TrialFinished)]


def simulate(
    run: Run, runner: Simulated, witness: Witness | None = None, stop: Stop | None = None
) -> tuple[Planner, bool]:
    planner = runner.machine.planner()
    asked = Stop() if stop is None else stop  # a Stop that nobody asked is false
    whole = run_trials(planner, runner, run, witness or Witness(), runner.clock, asked)
    return planner, whole


def test_every_trial_that_starts_ends_in_an_event_and_is_told_to_the_planner(run: Run) -> None:
    runner, witness = Simulated(Machine(SURFACES, seconds=60.0)), Witness()
    planner, whole = simulate(run, runner, witness)
    assert whole
    assert len(started(run)) > 10
    assert {s.id for s in started(run)} == {r.spec.id for r in finished(run)}
    assert finished(run) == planner.results
    assert not any(t.pending for arm in planner.arms.values() for t in arm.tried.values())
    assert witness.events == run.events(), "what is watched is what is written"
    assert witness.ticks == sorted(witness.ticks)
    assert witness.signs


def test_a_trial_is_started_once_and_in_a_free_slot(run: Run) -> None:
    busy: dict[int, int] = {}

    def check(event: Event) -> None:
        if isinstance(event, TrialStarted):
            assert event.worker not in busy
            busy[event.worker] = event.spec.id
        if isinstance(event, TrialFinished):
            busy.pop(next(slot for slot, number in busy.items() if number == event.result.spec.id))

    simulate(run, Simulated(Machine(SURFACES, seconds=60.0, workers=3)), Witness(check))
    assert not busy
    numbers = [s.id for s in started(run)]
    assert numbers == sorted(set(numbers))


def test_it_ends_in_time(run: Run) -> None:
    runner = Simulated(Machine(SURFACES, seconds=20.0))
    planner, _ = simulate(run, runner)
    assert runner.now <= planner.deadline * 1.02
    assert all(r.outcome is not Outcome.CANCELLED for r in finished(run))


def test_trials_that_outlive_the_deadline_are_cancelled_and_it_still_counts_as_an_end(run: Run) -> None:
    runner = Simulated(Machine(SURFACES, seconds=20.0, workers=2), endless=True)
    planner, whole = simulate(run, runner)
    assert whole
    assert runner.now == pytest.approx(planner.deadline * 1.02, abs=0.3)
    assert [r.outcome for r in finished(run)] == [Outcome.CANCELLED] * 2
    assert not any(arm.tried for arm in planner.arms.values()), "a cancelled trial says nothing"


def test_who_asked_to_stop_before_the_first_trial_gets_none(run: Run) -> None:
    stop = Stop()
    stop.asked = True
    _, whole = simulate(run, Simulated(Machine(SURFACES)), stop=stop)
    assert not whole
    assert started(run) == []


def test_a_stop_cancels_what_runs_and_starts_no_more(run: Run) -> None:
    stop = Stop()

    def after_five(event: Event) -> None:
        stop.asked = stop.asked or len(finished(run)) == 5

    _, whole = simulate(run, Simulated(Machine(SURFACES, workers=2)), Witness(after_five), stop)
    assert not whole
    outcomes = [r.outcome for r in finished(run)]
    assert Outcome.CANCELLED not in outcomes[:5]
    assert outcomes[5:] == [Outcome.CANCELLED]
    assert {s.id for s in started(run)} == {r.spec.id for r in finished(run)}


def test_the_end_of_a_stage_names_who_goes_on(run: Run) -> None:
    planner, _ = simulate(run, Simulated(Machine(SURFACES, seconds=100.0)))
    events = run.events()
    ends = [e for e in events if isinstance(e, StageEnded)]
    assert ends[0].stage == "race 1"
    trials = started(run)
    last = max(i for i, s in enumerate(trials) if s.stage == ends[-1].stage)
    after = {s.optimizer for s in trials[last + 1 :] if s.optimizer in SURFACES}
    assert after
    assert after <= set(ends[-1].kept)
    for ended in ends:
        assert {*ended.kept, *ended.dropped} == set(planner.layout.optimizers)


# --- failures -----------------------------------------------------------------------------------------------


def failed(number: int, name: str, outcome: Outcome = Outcome.ERROR) -> TrialResult:
    return TrialResult(spec=spec(number, name), outcome=outcome, message="the user's mistake")


def test_hopeless_is_when_three_optimizers_failed_in_the_users_code_and_nothing_else_happened() -> None:
    three = [failed(1, "adamw"), failed(2, "sgd", Outcome.EXITED), failed(3, "adan")]
    assert hopeless(three)
    assert hopeless([*three, failed(4, "lion", Outcome.CANCELLED)])
    assert not hopeless([])
    assert not hopeless(three[:2])
    assert not hopeless([failed(n, "adamw") for n in range(5)]), "one optimizer may be to blame"
    assert not hopeless([*three, failed(4, "lion", Outcome.DIVERGED)])
    assert not hopeless([*three, failed(4, "lion", Outcome.CRASHED)])
    assert not hopeless([*three, TrialResult(spec=spec(4, "lion"), outcome=Outcome.COMPLETED, loss=1.0)])


def test_a_file_that_fails_in_every_trial_does_not_use_up_the_budget(run: Run) -> None:
    machine = Machine(SURFACES, seconds=1000.0, workers=1)
    machine.result = lambda trial: failed(trial.id, trial.optimizer).model_copy(  # type: ignore[method-assign]
        update={"spec": trial, "seconds": {"total": 1.0}}
    )
    runner = Simulated(machine)
    _, whole = simulate(run, runner)
    assert whole
    assert len({s.optimizer for s in started(run)}) == 3
    assert len(started(run)) <= 6


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with Pool("fake", engine=FAKE_ENGINE, log_dir=tmp_path / "logs", workers=2, threads=1) as pool:
        pool.start()
        yield pool


def test_real_workers_die_and_diverge_and_the_rest_is_still_compared(run: Run, pool: Pool) -> None:
    names = ("adamw", "segfault", "nan", "error")
    machine = Machine({n: Surface(0.3, -2.5) for n in names}, steps=200, seconds=60.0, step_seconds=1e-3)
    planner, clock = machine.planner(), Clock()

    def few(event: Event) -> None:
        stop.asked = len(finished(run)) >= 30

    stop = Stop()
    run_trials(planner, pool, run, Witness(few), clock, stop)
    results = finished(run)
    assert {s.id for s in started(run)} == {r.spec.id for r in results}
    by_name = {n: {r.outcome for r in results if r.spec.optimizer == n} - {Outcome.CANCELLED} for n in names}
    assert by_name["adamw"] == {Outcome.COMPLETED}
    assert by_name["segfault"] == {Outcome.CRASHED}
    assert by_name["nan"] == {Outcome.DIVERGED}
    assert by_name["error"] == {Outcome.ERROR}
    assert "failed twice" in planner.arms["segfault"].dropped
    assert sum(r.spec.optimizer == "segfault" for r in results) <= 3


def test_real_workers_are_cancelled_at_the_deadline(run: Run, pool: Pool) -> None:
    machine = Machine({"endless": Surface(0.3, -2.5)}, steps=10**6, seconds=1e9)
    planner = machine.planner()
    planner.deadline, planner.begin = 1e9, 0.0
    late = Clock(spent=0.0)
    ask = planner.ask
    planner.ask = lambda elapsed: ask(0.0)  # type: ignore[method-assign]

    def after_both_began(event: Event) -> None:
        stop.asked = len(started(run)) == 2

    stop = Stop()
    assert not run_trials(planner, pool, run, Witness(after_both_began), late, stop)
    assert {r.outcome for r in finished(run)} == {Outcome.CANCELLED}
    assert {s.id for s in started(run)} == {r.spec.id for r in finished(run)}


# --- clock and signals --------------------------------------------------------------------------------------


def test_the_clock_counts_earlier_sessions_and_the_start_of_the_process() -> None:
    assert 0 <= Clock()() < 5
    assert 100 <= Clock(spent=100.0)() < 105
    assert 30 <= Clock(began=time.time() - 30)() < 35
    assert 0 <= Clock(began=time.time() + 1000)() < 5, "a clock that was set back gives no time"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_stops_at_once(number: int) -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    stop = Stop()
    with stop.listening():
        assert not stop
        signal.raise_signal(number)
        assert stop
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert {n: signal.getsignal(n) for n in before} == before


def test_handlers_come_back_when_the_run_raises() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="broken"), Stop().listening():
        raise ValueError("broken")
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_of_the_main_thread_no_signal_is_touched() -> None:
    seen: list[object] = []

    def listen() -> None:
        with Stop().listening() as stop:
            seen.append((signal.getsignal(signal.SIGINT), bool(stop), os.getpid()))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join(20)
    assert seen == [(before, False, os.getpid())]


def test_while_many_slots_want_a_trial_those_in_flight_are_looked_after(run: Run) -> None:
    """A planner that thinks for long fills a few slots, looks for results, and goes on; what it cost is counted."""
    runner = Simulated(Machine(SURFACES, seconds=60.0, workers=12))
    planner, counted, looks = runner.machine.planner(), Occupancy(runner.clock), list[float]()
    ask, wait = planner.ask, runner.wait

    def slowly(elapsed: float) -> TrialSpec | None:
        runner.now += 0.1
        return ask(elapsed)

    def look(timeout: float) -> list[Progress | TrialResult]:
        looks.append(timeout)
        return (
            []
            if timeout == 0 and runner.now < min(end for end, _ in runner.flying.values())
            else wait(timeout)
        )

    planner.ask, runner.wait = slowly, look  # type: ignore[method-assign]
    assert run_trials(planner, runner, run, Silent(), runner.clock, Stop(), counted)
    assert looks[:3] == [0.0, 0.0, 0.0]
    used = counted.used()
    assert used.slots == 12
    assert used.question_seconds >= 0.1
    assert used.planner > 0.1 * 12
    assert used.total == pytest.approx(12 * used.wall, rel=0.01)
