"""How a run went, in words: where its time was spent, the race, what more budget would buy. Plain (head, text) lines."""

from __future__ import annotations

from collections.abc import Mapping

from autoopt.records import Recommendation, Round
from autoopt.report import slots
from autoopt.report.words import by_reason, duration, ledger, name_of

Line = tuple[str, str]
"""A short head and the text beside it."""

_LARGE_START = 0.25
"""Share of the budget from which on a start-up deserves a sentence."""
_SHOWN = 0.005
"""Share of the time below which a part of it is not worth a word."""
_ROUNDS = 6
"""Rounds that a terminal shows: the first ones and the last."""
_NAMES = 5
"""Optimizers with equally many trials that a terminal names."""


def time_spent(rec: Recommendation) -> list[Line]:
    """Start-up, training steps and the rest, and the effort per optimizer."""
    lines: list[Line] = []
    if rec.spent is not None:
        lines += [("start-up", _startup(rec)), ("training", _inside(rec))]
    if words := slots.sentence(rec.slots):
        lines.append(("slots", words))
    for stage, words in efforts(rec).items():
        lines.append((stage, words))
    if rec.ledger:
        lines.append(("in all", ledger(rec.ledger)))
    return lines


def efforts(rec: Recommendation) -> dict[str, str]:
    """Stage -> trials and seconds of each optimizer, the largest first."""
    found = {}
    for stage in dict.fromkeys(e.stage for e in rec.effort):
        own = sorted((e for e in rec.effort if e.stage == stage), key=lambda e: -e.seconds)
        found[stage] = ", ".join(
            f"{name_of(e.optimizer, rec)} {e.trials} in {duration(e.seconds)}" for e in own
        )
    return found


def race(rec: Recommendation, most: int | None = _ROUNDS) -> list[Line]:
    """Who never entered, then a line for each round; empty where there was no race.

    Args:
        most: rounds to show; those in the middle are left out, and so are the names of many; `None`: all.
    """
    if not rec.race:
        return []
    cut = by_reason({n: why.removeprefix("cut: ") for n, why in rec.cut.items()})
    names = None if most is None else _NAMES
    lines = [("cut", f"{', '.join(some)} ({why})") for why, some in cut]
    shown = [(r.name, _round(r, rec, names)) for r in rec.race]
    if most is not None and len(shown) > most:
        first, last = most // 2, len(shown) - most // 2
        out = _out(rec.race[first:last], rec)
        middle = f"{last - first} rounds more{'; out: ' + out if out else ''} (all in report.html)"
        shown = [*shown[:first], ("...", middle), *shown[last:]]
    return [*_prior(rec), *lines, *shown]


def _prior(rec: Recommendation) -> list[Line]:
    """Whose earlier trials informed the choice."""
    words = []
    for one in rec.provenance.get("prior", []):
        trials, same = one["trials"], one["same_workload"]
        what = "the same workload" if same else f"another workload, {100 * one['correlation']:.0f} % alike"
        words.append(f"{trials} earlier trial{'s' * (trials != 1)} of {one['run']} ({what})")
    return [("prior", "; ".join(words))] if words else []


def what_more_buys(rec: Recommendation) -> str:
    """The budget that can reach the next confidence; empty where nothing is known of it."""
    more = rec.more
    if more is not None:
        whole = more.longest >= rec.settings.steps
        length = (
            "as long as the real run" if whole else f"of {more.longest} of its {rec.settings.steps} steps"
        )
        budget = duration(more.budget_seconds)
        return f"a budget of {budget} can reach {more.confidence} confidence, with trials {length}"
    if rec.spent is None:
        return ""
    buys = "more time buys further rates, settings and fresh seeds"
    if rec.confidence.label == "high":
        return f"no higher confidence; {buys}"
    return f"trials are long enough for high confidence; {buys}"


def _startup(rec: Recommendation) -> str:
    spent = rec.spent
    assert spent is not None
    share, budget = spent.startup_share, duration(spent.budget_seconds)
    text = f"{duration(spent.startup_seconds)}, {100 * share:.0f} % of the budget of {budget}"
    if spent.compile:
        text += f", compiling {duration(spent.compile)}"
    if share > _LARGE_START:
        text += (
            ": a large part of a small budget; a larger one starts as fast, and has the more left for trials"
        )
    return text


def _inside(rec: Recommendation) -> str:
    spent = rec.spent
    assert spent is not None
    if spent.available <= 0:
        return "the start-up left no time for any"
    others = {
        "waiting for data": spent.data,
        "building": spent.build,
        "evaluation": spent.evaluate,
        "compiling": spent.compiling,
    }
    rest = spent.available - spent.train - sum(others.values())
    parts = [
        f"{what} {100 * seconds / spent.available:.0f} %"
        for what, seconds in {**others, "unused": rest}.items()
        if seconds / spent.available >= _SHOWN
    ]
    workers = f"{spent.workers} worker{'s' * (spent.workers != 1)}"
    left = duration(spent.available / spent.workers)
    inside = f"{100 * spent.train / spent.available:.0f} % of {workers} x {left} inside training steps"
    return "; ".join([inside, *([", ".join(parts)] if parts else [])])


def _round(r: Round, rec: Recommendation, most: int | None) -> str:
    words = counted({name_of(n, rec): count for n, count in r.trials.items()}, most)
    leader = max(r.chances, key=lambda n: (r.chances[n], n), default=None)
    if leader is not None:
        words += f"; then ahead: {name_of(leader, rec)} ({100 * r.chances[leader]:.0f} %)"
    out = _out([r], rec)
    return words + (f"; out: {out}" if out else "")


def counted(trials: Mapping[str, int], most: int | None = None) -> str:
    """Names with their trials, those with equally many together.

    Args:
        most: names of a group; a larger one is told by its size.

    >>> counted({"adamw": 1, "sgd": 1, "muon": 3}), counted({"adamw": 1, "sgd": 1}, most=1)
    ('3 trials: muon; 1 trial each: adamw, sgd', '1 trial each: 2 optimizers')
    """
    grouped: dict[int, list[str]] = {}
    for name, count in trials.items():
        grouped.setdefault(count, []).append(name)
    return "; ".join(
        f"{count} trial{'s' * (count != 1)}{' each' if len(some) > 1 else ''}: "
        + (", ".join(some) if most is None or len(some) <= most else f"{len(some)} optimizers")
        for count, some in sorted(grouped.items(), reverse=True)
    )


def _out(some: list[Round], rec: Recommendation) -> str:
    """Who left in some rounds: with its chance of being the best, else why."""
    words = {}
    for r in some:
        for name, why in r.left.items():
            chance = r.chances.get(name)
            words[name_of(name, rec)] = why if chance is None else f"{100 * chance:.2g} %"
    return ", ".join(f"{name} ({why})" for name, why in words.items())
