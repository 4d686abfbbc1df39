"""What configurations are worth: full runs on seeds that nobody tuned on, each of them run once and kept."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.choice import jobs, rows
from benchmarks.choice.live import lines
from benchmarks.choice.live.crew import Crew
from benchmarks.choice.live.nouns import SCORING, Ended, Pick, Task
from benchmarks.choice.surface import FLOOR

REFERENCES = 4
"""Configurations of the table that the best known is also looked for among."""
_Key = tuple[str, Pick, int]


class Scores:
    """The scoring runs so far, in memory and in a file.

    Args:
        file: JSON lines.
        seeds: of the scoring runs.
    """

    def __init__(self, file: Path, seeds: Sequence[int] = SCORING) -> None:
        self._file, self._seeds = file, seeds
        self._loss: dict[_Key, float | None] = {}
        self._initial: dict[str, dict[int, float]] = defaultdict(dict)
        self._code: dict[str, str] = {}
        for line in lines.read(file):
            self._code[line["workload"]] = line["code"]
        for line in lines.read(file):
            if line["code"] == self._code[line["workload"]]:  # of the files as they were last
                self._take(line)

    def missing(self, workload: str, picks: Iterable[Pick], code: str) -> list[tuple[Pick, int]]:
        """Runs that `fill` would do."""
        if self._code.get(workload, code) != code:
            self._forget(workload)
        wanted = [(pick, seed) for pick in dict.fromkeys(picks) for seed in self._seeds]
        return [(pick, seed) for pick, seed in wanted if (workload, pick, seed) not in self._loss]

    def fill(self, workload: str, picks: Iterable[Pick], crew: Crew, code: str) -> int:
        """Runs what is missing; how many runs that was.

        Args:
            code: digest of the workload's files; runs of other files do not count.
        """
        todo = self.missing(workload, picks, code)
        waiting = iter(todo)

        def ask(_now: float) -> Task | None:
            pick, seed = next(waiting, (None, 0))
            return pick and Task("scored", pick, crew.report.settings.steps, seed)

        def ended(task: Task, end: Ended) -> None:
            if not end.extra:
                raise RuntimeError(f"{task.pick} on {workload} could not be scored: {end.how}")
            line = {
                "workload": workload,
                "optimizer": task.pick.optimizer,
                "settings": task.pick.hyper,
                "seed": task.seed,
                "loss": end.loss,
                "initial_loss": end.extra[0],
                "code": code,
            }
            lines.append(self._file, line)
            self._code[workload] = code
            self._take(line)

        crew.run(math.inf, ask, ended)
        return len(todo)

    def known(self, workload: str, pick: Pick) -> bool:
        """Whether all its runs are there."""
        return all((workload, pick, seed) in self._loss for seed in self._seeds)

    def value(self, workload: str, pick: Pick) -> float:
        """The mean over seeds of v = log(loss + c), c = 1 % of the loss before training, which no loss counts above."""
        initial = statistics.median(self._initial[workload].values())
        c = FLOOR * abs(initial)
        losses = [self._loss[workload, pick, seed] for seed in self._seeds]
        return statistics.fmean(
            math.log(min(max(0.0, initial if y is None else y), initial) + c) for y in losses
        )

    def diverged(self, workload: str, pick: Pick) -> bool:
        """Whether any of its runs diverged, or ended no better than it began."""
        initial = statistics.median(self._initial[workload].values())
        losses = [self._loss[workload, pick, seed] for seed in self._seeds]
        return any(y is None or y >= initial for y in losses)

    def best(self, workload: str) -> tuple[Pick, float]:
        """The best known of everything that was scored."""
        picks = {pick for name, pick, _ in self._loss if name == workload and self.known(name, pick)}
        return min(((pick, self.value(workload, pick)) for pick in picks), key=lambda item: item[1])

    def regret(self, workload: str, pick: Pick) -> float:
        """How far it is from the best known: 0 for that one."""
        return self.value(workload, pick) - self.best(workload)[1]

    def _take(self, line: lines.Line) -> None:
        pick = Pick.of(line["optimizer"], line["settings"])
        self._loss[line["workload"], pick, line["seed"]] = line["loss"]
        self._initial[line["workload"]][line["seed"]] = line["initial_loss"]

    def _forget(self, workload: str) -> None:
        self._loss = {key: loss for key, loss in self._loss.items() if key[0] != workload}
        self._initial.pop(workload, None)
        self._code.pop(workload)


def references(workload: str, tables: Path = rows.TABLES, number: int = REFERENCES) -> list[Pick]:
    """The best full runs of the workload's table: by their fresh seeds where there are such, else by the tuning's."""
    fresh: dict[Pick, list[float]] = defaultdict(list)
    tuned: dict[Pick, float] = {}
    for row in rows.read(tables / f"{workload}.json.gz"):
        if row["length_fraction"] != 1.0 or row["loss"] is None:
            continue
        pick = Pick.of(row["optimizer"], row["settings"])
        if row["seed"] in jobs.FRESH:
            fresh[pick].append(row["loss"])
        elif row["seed"] == 0:
            tuned[pick] = row["loss"]
    sure = {pick: statistics.fmean(ys) for pick, ys in fresh.items() if len(ys) == len(jobs.FRESH)}
    ranked = sorted(sure, key=lambda p: sure[p]) + sorted(tuned, key=lambda p: tuned[p])
    return list(dict.fromkeys(ranked))[:number]


def digest(target: Path) -> str:
    """Changes with the workload's file and with those beside it that it imports."""
    beside = re.findall(r"^from \.(\w+) import", target.read_text(), re.MULTILINE)
    return rows.digest([target, *(target.with_name(f"{name}.py") for name in beside)])
