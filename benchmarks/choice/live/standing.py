"""The live results as tables: mean regret of each tuner at each budget, the worst workload, and the replay beside it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.choice import HELD_OUT, regret, report
from benchmarks.choice.live.lines import Line
from benchmarks.choice.live.nouns import Pick
from benchmarks.choice.live.scores import Scores
from benchmarks.choice.live.tuners import TUNERS
from benchmarks.choice.regret import Outcome, Summary, summarise
from benchmarks.choice.surface import Surface
from benchmarks.choice.world import Choice


def outcomes(results: Sequence[Line], scores: Scores) -> list[Outcome]:
    """What the results come to; those that are not scored yet, or have no choice, are left out."""
    found = []
    for line in results:
        if "error" in line:
            continue
        workload, pick = line["workload"], Pick.of(line["optimizer"], line["settings"])
        if scores.known(workload, pick):
            found.append(
                Outcome(
                    workload,
                    line["tuner"],
                    line["budget"],
                    line["tuning"],
                    Choice(pick.optimizer, pick.hyper["lr"]),
                    scores.regret(workload, pick),
                    scores.diverged(workload, pick),
                )
            )
    return found


def markdown(results: Sequence[Line], scores: Scores, known: Mapping[str, Surface], replays: int) -> str:
    """All of it.

    Args:
        results: of the tuners, the last one of each kind.
        known: surfaces of the tables, for the replay.
        replays: simulated tunings per workload; 0: no comparison with the replay.
    """
    found, parts = outcomes(results, scores), list[str]()
    for title, held in (("Workloads open to tuning", False), ("Held out", True)):
        some = [o for o in found if (o.workload in HELD_OUT) is held]
        if some:
            names = sorted({o.workload for o in some})
            parts += [f"{title}: {', '.join(names)}.", _table(some), _detail(some)]
    parts.append(_best_known(found, scores))
    if replays:
        parts.append(_agreement(found, known, replays))
    parts.append(_spent(results))
    return "\n\n".join(part for part in parts if part) + "\n"


def _groups(found: Sequence[Outcome]) -> dict[tuple[str, float], list[Outcome]]:
    """(tuner, budget) -> its outcomes, in the order of the tables."""
    budgets = sorted({o.budget for o in found})
    keys = [(name, b) for name in TUNERS for b in budgets]
    groups = {key: [o for o in found if (o.tuner, o.budget) == key] for key in keys}
    return {key: some for key, some in groups.items() if some}


def _table(found: Sequence[Outcome]) -> str:
    budgets = sorted({o.budget for o in found})
    of = len({o.workload for o in found})
    groups = _groups(found)
    lines = [
        "| tuner | " + " | ".join(f"{b:g} full runs" for b in budgets) + " |",
        "|---|" + "---|" * len(budgets),
    ]
    for name, row in TUNERS.items():
        cells = [_cell(summarise(groups[name, b]), of) if (name, b) in groups else "" for b in budgets]
        if any(cells):
            lines.append(f"| {row.words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(s: Summary, of: int) -> str:
    partly = f" ({len(s.by_workload)} of {of} workloads)" if len(s.by_workload) < of else ""
    spread = f" ± {s.spread:.3f}" if s.spread else ""
    return f"{s.mean:.3f}{spread}{partly}; {s.worst:.2f} {s.where}; diverged {s.diverged} of {s.number}"


def _detail(found: Sequence[Outcome]) -> str:
    """Workload by workload: the mean regret, and what was chosen in the first tuning."""
    names = sorted({o.workload for o in found})
    lines = ["| tuner | full runs | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for (tuner, budget), some in _groups(found).items():
        cells = []
        for name in names:
            mine = sorted((o for o in some if o.workload == name), key=lambda o: o.tuning)
            cells.append(
                f"{statistics.fmean(o.regret for o in mine):.3f} {mine[0].chosen.optimizer} "
                f"{mine[0].chosen.rate:.2g}"
                if mine
                else ""
            )
        lines.append(f"| {tuner} | {budget:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _best_known(found: Sequence[Outcome], scores: Scores) -> str:
    """Regret 0 of each workload."""
    names = sorted({o.workload for o in found})
    best = {name: scores.best(name)[0] for name in names}
    told = [f"{name} {pick.optimizer} {pick.hyper['lr']:.2g}" for name, pick in best.items()]
    return f"Best known: {'; '.join(told)}." if told else ""


def _agreement(found: Sequence[Outcome], known: Mapping[str, Surface], replays: int) -> str:
    """The replay's mean regret beside the live one, over the workloads that both have."""
    lines = [
        f"The replay of the same tuners over the same workloads, {replays} simulated tunings each:",
        "",
        "| tuner | full runs | workloads | live | replayed |",
        "|---|---|---|---|---|",
    ]
    for (tuner, budget), some in _groups(found).items():
        here = [o for o in some if o.workload in known]
        if tuner not in report.TUNERS or not here:
            continue
        simulated = []
        for name in sorted({o.workload for o in here}):
            played = report.tuner_of(tuner, known[name], dict(known))
            lucky = replays if TUNERS[tuner].lucky else 1
            simulated += regret.play(known[name], tuner, played, [budget], lucky, 2)
        live, replayed = summarise(here), summarise(simulated)
        lines.append(
            f"| {tuner} | {budget:g} | {len(live.by_workload)} | {live.mean:.3f} | {replayed.mean:.3f} |"
        )
    return "\n".join(lines) if len(lines) > 4 else ""


def _spent(results: Sequence[Line]) -> str:
    """Time taken over time given, start-up apart, trainings; and every reason for which there is no result."""
    lines = [
        "| tuner | full runs | time taken / given | start-up, s | trainings ended / started |",
        "|---|---|---|---|---|",
    ]
    whole = [line for line in results if "error" not in line]
    for name in TUNERS:
        for budget in sorted({line["budget"] for line in whole}):
            some = [line for line in whole if (line["tuner"], line["budget"]) == (name, budget)]
            if not some or not any(line["seconds"] for line in some):
                continue
            shares = [line["seconds"] / (budget * line["unit_seconds"]) for line in some]
            ended, started = (statistics.fmean(line[k] for line in some) for k in ("finished", "started"))
            lines.append(
                f"| {name} | {budget:g} | {statistics.fmean(shares):.2f} (most {max(shares):.2f}) | "
                f"{statistics.fmean(line['startup_seconds'] for line in some):.1f} | {ended:.1f} / {started:.1f} |"
            )
    failed = [
        f"- {e['tuner']} on {e['workload']} at {e['budget']:g}: not run, {e['error']}"
        for e in results
        if "error" in e
    ]
    return "\n".join(lines if len(lines) > 2 else []) + ("\n\n" + "\n".join(failed) if failed else "")
