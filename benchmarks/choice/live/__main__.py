"""Tunes every workload with every tuner in the same time, and scores what they choose. From the repository's root:

    python -m benchmarks.choice.live                                   # all that is missing, then the tables
    python -m benchmarks.choice.live --only conv vit --budgets 3       # some of it
    python -m benchmarks.choice.live --again autoopt                   # the product has changed: its results anew
    python -m benchmarks.choice.live --report --record                 # no run: the tables, added to RESULTS.md

A budget is in AdamW's full runs, timed at the begin of each workload with both cores busy. Every tuner has two worker
processes with one torch thread each; its clock starts when they have loaded the workload. What was chosen is trained
anew in full, on three seeds that no tuner sees. Results and scoring runs are kept in two files of JSON lines, and the
same command goes on where it was stopped. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoopt import contest
from autoopt import policy as policies
from benchmarks import results
from benchmarks.choice import HELD_OUT, LONG, WORKLOADS, rows
from benchmarks.choice.live import lines, ours, scores, standing
from benchmarks.choice.live.crew import Crew
from benchmarks.choice.live.nouns import DEFAULT, Ended, Pick, Task, Tuned, Unavailable
from benchmarks.choice.live.scores import Scores
from benchmarks.choice.live.setting import Setting
from benchmarks.choice.live.tuners import TUNERS
from benchmarks.choice.surface import surfaces

COMMAND = "python -m benchmarks.choice.live"
FOLDER = Path(__file__).parents[1]
TYPICAL_SECONDS = 2.0
"""Of a full run, before the workload's own was timed."""
_BUSY = 0.7
"""Average load above which there is a word of it."""
_OVERHEAD = 10.0
"""Seconds of start-up per tuning that has its own workers."""


@dataclass(frozen=True)
class Tuning:
    """One tuning of one tuner on one workload."""

    workload: str
    tuner: str
    budget: float
    number: int

    @classmethod
    def of(cls, line: lines.Line) -> Tuning:
        return cls(line["workload"], line["tuner"], line["budget"], line["tuning"])

    def seconds(self, unit: float) -> float:
        """About how long it takes, its scoring included."""
        row = TUNERS[self.tuner]
        own = _OVERHEAD if self.tuner in ("autoopt", "ray_tune") else 0.0
        return (self.budget * unit if row.costs else 0.0) + own + 2 * unit


class Comparison:
    """The results so far, and the runs that are missing.

    Args:
        out: folder of the results (`live.jsonl`) and the scoring runs (`live_scores.jsonl`).
        folder: of the workloads.
        tables: of the tables.
    """

    def __init__(
        self,
        out: Path = FOLDER,
        folder: Path = FOLDER / "workloads",
        tables: Path = rows.TABLES,
    ) -> None:
        self._out, self._folder, self._tables = out / "live.jsonl", folder, tables
        self.scores = Scores(out / "live_scores.jsonl")
        self.lines = {Tuning.of(line): line for line in lines.read(self._out)}

    def fill(
        self,
        workloads: Sequence[str],
        budgets: Sequence[float],
        names: Sequence[str],
        tunings: int,
        again: Sequence[str] = (),
    ) -> None:
        """Runs what is missing, workload by workload; small budgets first.

        Args:
            again: tuners whose results are not to be kept.
        """
        code = {name: scores.digest(self._folder / f"{name}.py") for name in workloads}
        wanted = [
            Tuning(w, name, b, number)
            for w in workloads
            for b in sorted(budgets)
            for number in range(tunings)
            for name in names
            if number == 0 or TUNERS[name].lucky
        ]
        todo = [t for t in wanted if t.tuner in again or not self._holds(t, code[t.workload])]
        print(
            f"{len(todo)} tunings of {len(wanted)} are missing, {_about(todo, TYPICAL_SECONDS)}", flush=True
        )
        for workload in workloads:
            mine = [t for t in todo if t.workload == workload]
            later = [t for t in todo if workloads.index(t.workload) > workloads.index(workload)]
            kept = [t for t in wanted if t.workload == workload and t not in mine]
            self._workload(workload, code[workload], mine, kept, later)

    def _holds(self, tuning: Tuning, code: str) -> bool:
        """Whether there is a result, of the workload as it is now."""
        line = self.lines.get(tuning, {"error": ""})
        return "error" not in line and line["code"] == code

    def _workload(
        self,
        workload: str,
        code: str,
        todo: Sequence[Tuning],
        kept: Sequence[Tuning],
        later: Sequence[Tuning],
    ) -> None:
        target = self._folder / f"{workload}.py"
        references = scores.references(workload, self._tables)
        picks = [*references, *(p for t in kept if (p := self._pick(t)) is not None)]
        if not todo and not self.scores.missing(workload, picks, code):
            return
        with Crew(target) as crew:
            self.scores.fill(workload, picks, crew, code)  # what an interrupted command had not got to
            unit = full_run(crew) if todo else 0.0
            print(
                f"{workload}: loaded in {crew.startup:.1f} s, AdamW's full run takes {unit:.2f} s", flush=True
            )
            names = list(contest.enter(policies.load(ours.POLICY), crew.report, named=False).specs)
            for i, tuning in enumerate(todo):
                setting = Setting(
                    workload, target, names, tuning.budget * unit, tuning.number, crew, self._tables
                )
                line = self._tune(tuning, setting, unit, code)
                self.lines[tuning] = line
                lines.append(self._out, line)
                pick = self._pick(tuning)
                if pick is not None:
                    self.scores.fill(workload, [pick], crew, code)
                print(f"{_told(line)}; {_about(todo[i + 1 :], unit, later)}", flush=True)

    def _tune(self, tuning: Tuning, setting: Setting, unit: float, code: str) -> lines.Line:
        line: lines.Line = {
            "workload": tuning.workload,
            "tuner": tuning.tuner,
            "budget": tuning.budget,
            "tuning": tuning.number,
            "unit_seconds": round(unit, 4),
            "code": code,
        }
        try:
            tuned = TUNERS[tuning.tuner].tuner(setting)
        except Unavailable as reason:
            return line | {"error": str(reason)}
        return line | _columns(tuned, setting.crew.startup)

    def _pick(self, tuning: Tuning) -> Pick | None:
        line = self.lines.get(tuning, {"error": ""})
        return None if "error" in line else Pick.of(line["optimizer"], line["settings"])


def _columns(tuned: Tuned, startup: float) -> lines.Line:
    """`startup`: of the workers that tuners without their own share."""
    return {
        "optimizer": tuned.pick.optimizer,
        "settings": tuned.pick.hyper,
        "seconds": round(tuned.seconds, 3),
        "startup_seconds": round(tuned.startup or startup, 2),
        "started": tuned.started,
        "finished": tuned.finished,
        "note": tuned.note,
    }


def full_run(crew: Crew) -> float:
    """Seconds of AdamW's full run while the other workers do the same: the median of one run of each."""
    begin, ends = time.monotonic(), list[float]()
    tasks = iter([Task("plain", DEFAULT, crew.report.settings.steps, 0)] * crew.workers)

    def ended(_task: Task, end: Ended) -> None:
        if end.how != "completed":
            raise RuntimeError(f"AdamW's default run {end.how}: the budget has no unit.")
        ends.append(time.monotonic() - begin)

    crew.run(float("inf"), lambda _now: next(tasks, None), ended)
    return statistics.median(ends)


def _told(line: lines.Line) -> str:
    what = f"{line['workload']} {line['tuner']} at {line['budget']:g}, tuning {line['tuning']}"
    if "error" in line:
        return f"{what}: NOT RUN: {line['error']}"
    note = f" ({line['note']})" if line["note"] else ""
    lr = line["settings"]["lr"]
    return f"{what}: {line['optimizer']} lr {lr:.3g} after {line['seconds']:.1f} s{note}"


def _about(todo: Sequence[Tuning], unit: float, later: Sequence[Tuning] = ()) -> str:
    seconds = sum(t.seconds(unit) for t in todo) + sum(t.seconds(TYPICAL_SECONDS) for t in later)
    return f"about {seconds / 60:.0f} min left"


def main() -> None:
    flags = _flags()
    compared = Comparison(flags.out)
    if not flags.report:
        if (load := os.getloadavg()[0]) > _BUSY:
            print(
                f"Other work is running here (load {load:.1f}): the clock is not the same for all.",
                flush=True,
            )
        try:
            compared.fill(flags.only, flags.budgets, flags.tuners, flags.tunings, flags.again)
        except KeyboardInterrupt:
            sys.exit("Stopped; what was done is kept, and the same command goes on.")
    chosen = [
        line
        for tuning, line in compared.lines.items()
        if tuning.workload in flags.only and tuning.tuner in flags.tuners and tuning.budget in flags.budgets
    ]
    if not chosen:
        sys.exit("There are no results yet.")
    known = {name: s for name, s in surfaces(rows.TABLES).items() if name in flags.only or name in WORKLOADS}
    body = _preface(chosen) + standing.markdown(chosen, compared.scores, known, flags.replays)
    if flags.record:
        told = f"{COMMAND} --budgets {' '.join(f'{b:g}' for b in flags.budgets)} --tunings {flags.tunings}"
        told += f" --only {' '.join(flags.only)}" if flags.only != list(WORKLOADS) else ""
        told += f" --tuners {' '.join(flags.tuners)}" if flags.tuners != list(TUNERS) else ""
        results.append(results.heading("Choice, live", told) + body)
    else:
        print(body)


def _preface(chosen: Sequence[lines.Line]) -> str:
    units = {line["workload"]: line["unit_seconds"] for line in chosen}
    return (
        f"{results.machine()}. {len(units)} workloads, of which held out: "
        f"{', '.join(sorted(HELD_OUT & set(units))) or 'none'}; two workers with one thread each. "
        "A full run of AdamW, the unit of the budgets: "
        f"{'; '.join(f'{name} {unit:.2f} s' for name, unit in sorted(units.items()))}. Each cell: mean over the "
        "workloads of regret = log((final + c) / (best known + c)), three fresh seeds each; the worst workload; how "
        "many choices diverged.\n\n"
    )


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--budgets", type=float, nargs="+", default=[3.0, 15.0], help="in AdamW's full runs")
    able = (*WORKLOADS, *LONG)
    parser.add_argument(
        "--only", nargs="+", choices=able, default=list(WORKLOADS), help="workloads; all but the long ones"
    )
    parser.add_argument("--tuners", nargs="+", choices=list(TUNERS), default=list(TUNERS), metavar="NAME")
    parser.add_argument("--tunings", type=int, default=1, help="repetitions, each with seeds of its own")
    parser.add_argument(
        "--again", nargs="+", choices=list(TUNERS), default=[], metavar="NAME", help="run these tuners anew"
    )
    parser.add_argument("--replays", type=int, default=5, help="simulated tunings to compare with; 0: none")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of live.jsonl and live_scores.jsonl")
    parser.add_argument("--report", action="store_true", help="the tables of what is there; nothing is run")
    parser.add_argument("--record", action="store_true", help="add the tables to benchmarks/RESULTS.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
