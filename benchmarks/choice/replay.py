"""The product itself over a table: its entry, plan, planner, loop and recommendation, unchanged, in simulated time.

A trial's loss, seconds and divergence come from the table (`surface.py`), its seed's luck from the table's repeats
(`world.py`). What the table does not have has no effect: betas, momentum and weight decay change a trial's luck alone.
Losses are compared by the validation loss, also where the workload has a metric. The clock starts with the first trial:
what a start costs is the same minute for a real run of hours, and many times these small runs.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, cast

from autoopt import contest
from autoopt import policy as policies
from autoopt.errors import NoResult
from autoopt.occupancy import Occupancy
from autoopt.optim import registry
from autoopt.optim.spec import Need
from autoopt.policy import Policy
from autoopt.recommend import Evidence, recommend
from autoopt.records import (
    BASELINE,
    Baseline,
    Outcome,
    Recommendation,
    Settings,
    TrialResult,
    TrialSpec,
    WorkloadReport,
)
from autoopt.run import Run
from autoopt.session import Silent, Stop, run_trials
from autoopt.trials.runner import Progress
from autoopt.tuning import knowledge
from autoopt.tuning.earlier import Earlier
from autoopt.tuning.knowledge import Knowledge
from autoopt.tuning.planner import Planner
from benchmarks.choice.jobs import BASELINE_START
from benchmarks.choice.surface import DEFAULT_RATE
from benchmarks.choice.world import Choice, World

_CONTENTION = 1.1
"""By which the planner takes a step to be slower beside others; the table's seconds are already those."""

_OVERRUN = 1.02
"""Of the budget: when the loop cancels what still runs."""


class Machine:
    """Runs trials in simulated time: a `Runner`, and the clock of the loop.

    Args:
        world: what trials are.
        slots: trials at once.
        latest: when the loop gives up on what still runs.
        thinking: by how much the clock goes on for each second of processor time that the planner really takes.
    """

    def __init__(self, world: World, slots: int, latest: float, thinking: float = 0.0) -> None:
        self.world, self.slots, self.latest = world, slots, latest
        self.now, self._thinking, self._looked = 0.0, thinking, time.process_time()
        self.busy = 0.0
        self._flying: list[tuple[float, int, int, TrialResult]] = []

    def __call__(self) -> float:
        if self._thinking:
            looked = time.process_time()
            self.now += self._thinking * (looked - self._looked)
            self._looked = looked
        return self.now

    def start(self) -> WorkloadReport:
        return report(self.world)

    def idle(self) -> list[int]:
        taken = {slot for _, _, slot, _ in self._flying}
        return [slot for slot in range(self.slots) if slot not in taken]

    def submit(self, slot: int, spec: TrialSpec) -> None:
        result = self._result(spec)
        heapq.heappush(self._flying, (self() + result.seconds["total"], spec.id, slot, result))

    def wait(self, timeout: float) -> list[Progress | TrialResult]:
        """On to the end of the next trial, or past the time at which the loop gives up on it."""
        self._looked = time.process_time()
        if timeout <= 0 and not (self._flying and self._flying[0][0] <= self.now):
            return []
        if not self._flying or self._flying[0][0] > self.latest:
            self.now = max(self.now, self.latest) + timeout
            return []
        end, _, _, result = heapq.heappop(self._flying)
        self.now = max(self.now, end)  # the planner may have thought for longer
        self.busy += result.seconds["total"]
        return [result]

    def cancel(self) -> list[TrialResult]:
        left = [
            item[3].model_copy(update={"outcome": Outcome.CANCELLED, "loss": None}) for item in self._flying
        ]
        self._flying.clear()
        return left

    def close(self) -> None:
        self._flying.clear()

    def _result(self, spec: TrialSpec) -> TrialResult:
        surface = self.world.surface
        rate = spec.hyper.get("lr", DEFAULT_RATE)
        settings = sorted((k, v) for k, v in spec.hyper.items() if k != "lr")
        ran = self.world.run(spec.optimizer, rate, spec.steps, spec.seed, settings)
        step = surface.step_seconds(spec.optimizer)
        return TrialResult(
            spec=spec,
            outcome=Outcome.DIVERGED if ran.loss is None else Outcome.COMPLETED,
            loss=ran.loss,
            steps_done=round(ran.share * spec.steps),
            seconds={
                "build": surface.startup_seconds,
                "train": ran.share * spec.steps * step,
                "total": ran.seconds,
            },
            step_seconds=step,
            digests=["0"],  # the same batches for everybody, as the table's runs had
        )


def report(world: World) -> WorkloadReport:
    """What the calibration of this workload would have measured."""
    surface = world.surface
    return WorkloadReport(
        target=f"{surface.name}.py",
        kind="functions",
        settings=Settings(steps=surface.steps),
        baseline=Baseline(
            source="default",
            optimizer="AdamW",
            registry_name="adamw",
            hyper=dict(BASELINE_START),
            schedule=None,
        ),
        device="cpu",
        parameters=1,
        trainable=1,
        dtypes={"float32": 1},
        layers={},
        groups=[],
        batch="of the table",
        samples_per_batch=None,
        batches_per_epoch=None,
        validation="own",
        validation_batches=1,
        first_loss=surface.initial,
        initial_loss=surface.initial,
        restore="in_place",
        reproducible_data=True,
        unavailable={n: "not in the table" for n in registry.names() if n not in surface.optimizers},
        step_seconds=surface.step_seconds("adamw") / _CONTENTION,
        relative_step_seconds={
            n: surface.step_seconds(n) / surface.step_seconds("adamw") for n in _timed(surface.optimizers)
        },
        data_seconds=0.0,
        eval_batch_seconds=surface.evaluate_seconds / _CONTENTION,
    )


def _timed(names: Iterable[str]) -> Iterator[str]:
    """Those whose steps the product times before the trials: first order, of torch or its own."""
    for name in names:
        spec = registry.get(name)
        if spec.distribution in ("torch", "autoopt") and Need.SECOND_ORDER not in spec.needs:
            yield name


@cache
def _policy(name: str) -> Policy:
    return policies.load(name)


def known_without(workload: str) -> Knowledge:
    """What the product knows of other networks, without the one that it is scored on (nor its short or long form)."""
    return knowledge.shipped().without({workload, workload.removeprefix("long_")})


class _Nowhere:
    """A run that keeps no events."""

    def append(self, event: Any) -> None:
        """Nothing."""


def tune(
    world: World,
    budget: float,
    workers: int = 2,
    policy: str | Policy = "balanced",
    others: Knowledge | None = None,
    earlier: Sequence[Earlier] = (),
    thinking: float = 0.0,
) -> tuple[Recommendation | None, Planner]:
    """A whole sitting of the product in `budget` seconds; no recommendation when every trial diverged."""
    machine = Machine(world, workers, _OVERRUN * budget, thinking)
    known = machine.start()
    entry = contest.enter(_policy(policy) if isinstance(policy, str) else policy, known, named=False)
    planner, _ = contest.prepare(
        entry,
        known,
        budget=budget,
        begin=0.0,
        deadline=budget,
        workers=workers,
        seed=0,
        done=[],
        known=known_without(world.surface.name) if others is None else others,
        earlier=earlier,
    )
    occupancy = Occupancy(machine)
    run_trials(planner, machine, cast(Run, _Nowhere()), Silent(), machine, Stop(), occupancy)
    evidence = Evidence(
        name=world.surface.name,
        report=known,
        policy=entry.policy,
        specs=planner.specs,
        planner=planner,
        ledger={"wall": machine.now, "busy": machine.busy},
        provenance={},
        complete=True,
        notes=[],
        slots=occupancy.used(),
    )
    try:
        return recommend(evidence), planner
    except NoResult:
        return None, planner


def autoopt(world: World, budget: float, workers: int) -> Choice:
    """The product's choice; AdamW at its default when it has none."""
    found, _ = tune(world, budget, workers)
    if found is None:
        return Choice(BASELINE, DEFAULT_RATE)
    chosen = found.recommendation
    return Choice(chosen.optimizer, chosen.hyper.get("lr", DEFAULT_RATE))
