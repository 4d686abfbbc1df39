"""A machine that trains nothing: known loss surfaces, known seconds, workers that take turns in simulated time."""

from __future__ import annotations

import heapq
import math
import zlib
from dataclasses import dataclass, field

import numpy as np

from autoopt.optim.spec import OptimSpec, Range
from autoopt.records import (
    BASELINE,
    Baseline,
    Outcome,
    Settings,
    TrialResult,
    TrialSpec,
    WorkloadReport,
)
from autoopt.tuning.arm import Arm
from autoopt.tuning.belief import Prior
from autoopt.tuning.earlier import Earlier
from autoopt.tuning.knowledge import NOTHING, Knowledge
from autoopt.tuning.limits import Limits
from autoopt.tuning.plan import Costs, describe
from autoopt.tuning.planner import Planner
from autoopt.tuning.score import Score

INITIAL = 2.3


@dataclass(frozen=True)
class Surface:
    """loss(lr, steps) = floor + scale steps^-0.5 + bowl (log10 lr - best)^2; diverges above `edge`."""

    floor: float
    best: float
    bowl: float = 0.15
    edge: float = 0.0
    drift: float = -0.03
    cost: float = 1.0

    def loss(self, lr: float, steps: int, noise: float) -> float | None:
        x = math.log10(lr)
        if x > self.edge:
            return None
        centre = self.best + self.drift * math.log(steps / 100, 8)
        base = self.floor + 3 / math.sqrt(steps) + self.bowl * (x - centre) ** 2
        return min(base * math.exp(noise), INITIAL)


SURFACES = {
    "adamw": Surface(0.3, -2.5),
    "sgd": Surface(0.5, -1, edge=-0.3),
    "adan": Surface(0.25, -2, cost=1.3),
    "muon": Surface(0.15, -2, cost=1.8),
    "lion": Surface(0.3, -4),
    "nadam": Surface(0.32, -2.6),
}


def spec(name: str, lr: float = 1e-3) -> OptimSpec:
    return OptimSpec(
        name,
        name.title(),
        f"torch.optim:{name}",
        "torch",
        {"lr": lr, "weight_decay": 0.01},
        {"lr": Range(1e-5, 1.0), "weight_decay": Range(1e-4, 1.0)},
        2,
    )


def report(steps: int, step_seconds: float = 0.01, baseline: str | None = None) -> WorkloadReport:
    return WorkloadReport(
        target="model.py",
        kind="functions",
        settings=Settings(steps=steps),
        baseline=Baseline(
            source="default", optimizer="AdamW", registry_name=baseline, hyper={"lr": 1e-3}, schedule=None
        ),
        device="cpu",
        parameters=10,
        trainable=10,
        dtypes={"float32": 10},
        layers={},
        groups=[],
        batch="float32[1]",
        samples_per_batch=1,
        batches_per_epoch=10,
        validation="own",
        validation_batches=4,
        first_loss=INITIAL,
        initial_loss=INITIAL,
        restore="in_place",
        reproducible_data=True,
        step_seconds=step_seconds,
        data_seconds=0.0,
        eval_batch_seconds=step_seconds / 3,
    )


@dataclass
class Machine:
    """Runs a planner in simulated time."""

    surfaces: dict[str, Surface]
    steps: int = 1000
    seconds: float = 100.0
    workers: int = 2
    noise: float = 0.02
    step_seconds: float = 0.01
    baseline_lr: float = 1e-3
    speed: float = 1.0
    known: Knowledge = NOTHING
    earlier: tuple[Earlier, ...] = ()
    rounds_timed: dict[str, int] = field(default_factory=dict)
    limits: Limits | None = None
    log: list[TrialResult] = field(default_factory=list)

    def planner(self, told: list[TrialResult] | None = None) -> Planner:
        specs = {name: spec(name) for name in self.surfaces}
        costs = Costs.of(report(self.steps, self.step_seconds), self.workers)
        layout, plan = describe(specs, self.steps, costs, self.seconds, self.seconds, 0.25, None, {})
        arms = {BASELINE: Arm(BASELINE, {}, {})}
        for name in layout.optimizers:
            arms[name] = Arm(name, {"lr": 1e-3, "weight_decay": 0.01}, dict(specs[name].space))
        planner = Planner(
            arms,
            specs,
            layout,
            plan,
            costs,
            Score(INITIAL),
            Prior(self.known, dict.fromkeys([*specs, BASELINE], -3.0)),
            total=self.steps,
            deadline=self.seconds,
            begin=0.0,
            seed=0,
            chosen_by_user=True,
            timed={name: surface.cost for name, surface in self.surfaces.items()},
            rounds_timed=self.rounds_timed,
            limits=self.limits,
            earlier=self.earlier,
        )
        for result in told or []:
            planner.tell(result)
        return planner

    def result(self, trial: TrialSpec) -> TrialResult:
        name = "adamw" if trial.optimizer == BASELINE else trial.optimizer
        surface = self.surfaces[name]
        text = f"{trial.optimizer}{sorted(trial.hyper.items())}{trial.steps}{trial.seed}"
        rng = np.random.default_rng(zlib.crc32(text.encode()))
        loss = surface.loss(
            trial.hyper.get("lr", self.baseline_lr), trial.steps, self.noise * rng.standard_normal()
        )
        step = self.step_seconds * surface.cost * self.speed
        return TrialResult(
            spec=trial,
            outcome=Outcome.DIVERGED if loss is None else Outcome.COMPLETED,
            loss=loss,
            steps_done=trial.steps,
            seconds={"total": step * trial.steps + 0.05, "train": step * trial.steps},
            step_seconds=step,
            state_bytes=80,
            peak_bytes=200,
            digests=["a", "b"],
        )

    def run(self, planner: Planner | None = None, until: float | None = None) -> Planner:
        planner = planner or self.planner()
        now, running = 0.0, list[tuple[float, int, TrialResult]]()
        stop = until if until is not None else self.seconds * 1.5
        while now < stop:
            while len(running) < self.workers:
                trial = planner.ask(now)
                if trial is None:
                    break
                planner.start(trial)
                result = self.result(trial)
                heapq.heappush(running, (now + result.seconds["total"], trial.id, result))
            if not running:
                break
            now, _, result = heapq.heappop(running)
            planner.tell(result)
            self.log.append(result)
        self.now = now
        return planner
