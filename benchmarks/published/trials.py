"""Arms of a comparison: a grid of settings tuned on some seeds, its best scored on others.

Everything runs in autoopt's own loop and schedule (warm-up, then cosine), and all arms of a claim see the same
initial weights and the same batches at the same seed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoopt.records import Hyper, TrialResult, TrialSpec
from autoopt.trials.execute import execute
from autoopt.workload import Workload
from benchmarks.published.progress import Progress
from benchmarks.table import Arm

Train = Callable[[TrialSpec], TrialResult]


@dataclass(frozen=True, eq=False)  # by identity, so that it can be a key
class Contender:
    """An optimizer for so many steps, with the settings that it may choose from."""

    title: str
    optimizer: str
    steps: int
    grid: tuple[Hyper, ...]

    def spec(self, claim: str, hyper: Hyper, seed: int) -> TrialSpec:
        return TrialSpec(
            id=0, stage=claim, optimizer=self.optimizer, hyper=hyper, steps=self.steps, seed=seed
        )


@dataclass(frozen=True)
class Tuned:
    """The losses of a grid, each the mean over the tuning seeds (infinite: diverged), and the best one."""

    losses: tuple[tuple[Hyper, float], ...]

    @property
    def best(self) -> Hyper:
        return min(self.losses, key=lambda item: item[1])[0]

    def at_edge(self) -> bool:
        """Whether the best rate is the smallest or the largest that was tried."""
        rates = [hyper["lr"] for hyper, _ in self.losses]
        return self.best["lr"] in (min(rates), max(rates))


class Bench:
    """Runs trials of one claim, saying how far it is, and keeps every result that it has paid for.

    Args:
        claim: its name.
        train: makes a result of a spec.
        work: steps of all trials together.
        kept: a file of results, one a line; what is in it is not run again. None keeps nothing.
    """

    def __init__(self, claim: str, train: Train, work: float, kept: Path | None = None) -> None:
        self.claim = claim
        self._train = train
        self._progress = Progress(claim, work)
        self._kept = kept
        self._known = dict(_read(kept)) if kept and kept.exists() else {}

    def run(self, contender: Contender, hyper: Hyper, seed: int) -> TrialResult:
        """One trial, or the kept result of the same one."""
        spec = contender.spec(self.claim, hyper, seed)
        found = self._known.get(spec.model_dump_json())
        result = found or self._train(spec)
        if found is None:
            self._known[spec.model_dump_json()] = result
            if self._kept:
                with self._kept.open("a") as file:
                    file.write(result.model_dump_json() + "\n")
        loss = "diverged" if result.loss is None else f"{result.loss:.4g}"
        note = f"{contender.title}, {shown(hyper)}, seed {seed}: {loss}"
        self._progress.add(spec.steps, note, free=found is not None)
        return result

    def tune(self, contender: Contender, seeds: Sequence[int]) -> Tuned:
        """Every setting of the grid on every seed."""
        losses = []
        for hyper in contender.grid:
            results = [self.run(contender, hyper, seed).loss for seed in seeds]
            finite = [loss for loss in results if loss is not None]
            mean = statistics.fmean(finite) if len(finite) == len(results) else math.inf
            losses.append((hyper, mean))
        return Tuned(tuple(losses))

    def score(self, contender: Contender, hyper: Hyper, seeds: Sequence[int]) -> list[TrialResult]:
        return [self.run(contender, hyper, seed) for seed in seeds]


def trainer(workload: Workload) -> Train:
    """Trials on a loaded workload, in this process."""

    def train(spec: TrialSpec) -> TrialResult:
        *_, last = execute(workload, spec)
        assert isinstance(last, TrialResult)
        return last

    return train


def grid(rates: Sequence[float], **others: Sequence[float]) -> tuple[Hyper, ...]:
    """Every rate with every value of the other hyperparameters.

    >>> grid([1.0, 2.0], beta2=[0.9])
    ({'beta2': 0.9, 'lr': 1.0}, {'beta2': 0.9, 'lr': 2.0})
    """
    found: list[Hyper] = [{}]
    for name, values in others.items():
        found = [hyper | {name: value} for hyper in found for value in values]
    return tuple(hyper | {"lr": rate} for hyper in found for rate in rates)


def arm(results: Sequence[TrialResult]) -> Arm:
    """Final losses and metrics over the seeds."""
    return Arm("", [result.loss for result in results], [result.metric for result in results])


def shown(hyper: Hyper) -> str:
    """Settings as a table shows them.

    >>> shown({"beta2": 0.95, "lr": 0.004})
    'lr 0.004, beta2 0.95'
    """
    keys = sorted(hyper, key=lambda key: (key != "lr", key))
    return ", ".join(f"{key} {hyper[key]:.3g}" for key in keys)


def _read(path: Path) -> list[tuple[str, TrialResult]]:
    results = [TrialResult.model_validate_json(line) for line in path.read_text().splitlines()]
    return [(result.spec.model_dump_json(), result) for result in results]
