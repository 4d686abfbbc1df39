"""The speed of a training step and what each optimizer trades for it, in words and cells, for terminal and page."""

from __future__ import annotations

from autoopt.options import BATCH
from autoopt.records import Recommendation, Speed, StepCost
from autoopt.records.workload import ENOUGH_ROUNDS
from autoopt.report.words import duration, name_of, number, scaled

Line = tuple[str, str]
"""A short head and the text beside it."""

INPUT_BOUND = 0.3
"""Share of a step that is waiting for data from which on the optimizer's own time hardly matters."""
COLUMNS = ("optimizer", "step", "middle half", "x AdamW", "samples/s", "tokens/s", "in optimizer")
"""Of the table of timed steps."""


def lines(rec: Recommendation) -> list[Line]:
    """Where a step of the recommended optimizer goes, and how the optimizers' steps were timed."""
    found: list[Line] = []
    speed = chosen(rec)
    if speed is not None:
        other = BATCH in rec.recommendation.hyper  # told as of all optimizers, with the run's own batch
        found += [("a step of your batch" if other else "a step", _parts(speed)), ("measured", _how(speed))]
    if words := input_bound(rec):
        found.append(("input-bound", words))
    rate = rec.expected.samples_per_second
    if rate is not None:
        words = f"{scaled(rate)} samples a second"
        if rec.expected.tokens_per_second is not None:
            words += (
                f", {scaled(rec.expected.tokens_per_second)} tokens ({rec.workload.tokens}, padding included)"
            )
        found.append(("throughput", words))
    if words := processes(rec):
        found.append(("processes", words))
    costs = rec.workload.step_costs
    if costs is not None:
        rounds = max((c.rounds for c in costs.optimizers), default=0)
        words = (
            f"side by side in {rounds} rounds, {duration(costs.seconds)}; forward and backward take "
            f"{duration(costs.shared_seconds)}"
        )
        if costs.imports:
            words += "; imports apart: " + ", ".join(f"{n} {duration(s)}" for n, s in costs.imports.items())
        found.append(("all optimizers", words))
    return found


def processes(rec: Recommendation) -> str:
    """Whose figures are told where several processes train a model, and how far apart they are; else empty."""
    ranks = rec.expected.ranks
    if ranks is None:
        return ""
    words = [
        f"{len(ranks.step_seconds)}, their gradients averaged by {rec.workload.averaged_by}; what is told is the slowest's "
        "time and the largest's memory"
    ]
    if ranks.slowest is not None and ranks.spread is not None:
        words.append(f"steps take longest in rank {ranks.slowest}, {ranks.spread:.3g} x those of the fastest")
    known = [size for size in ranks.peak_bytes if size is not None]
    if ranks.largest is not None:
        words.append(
            f"the highest peak is that of rank {ranks.largest}, {scaled(max(known), 'B')}, the lowest "
            f"{scaled(min(known), 'B')}"
        )
    return "; ".join(words)


def input_bound(rec: Recommendation) -> str:
    """A sentence where waiting for data is more than 30 % of a step; else empty."""
    speed, report = chosen(rec), rec.workload
    if speed is not None:
        share = speed.data_share
    else:
        whole = report.data_seconds + report.step_seconds
        share = report.data_seconds / whole if whole > 0 else 0.0
    if share <= INPUT_BOUND:
        return ""
    return (
        f"{100 * share:.0f} % of a step is waiting for data: the optimizer's time hardly matters here. "
        "More loader workers, or data kept in memory, buy more than any other optimizer."
    )


def chosen(rec: Recommendation) -> Speed | None:
    """The speed of the recommended optimizer's trials; `None` where too few steps were measured."""
    return next((r.speed for r in rec.optimizers if r.optimizer == rec.recommendation.optimizer), None)


def table(rec: Recommendation) -> list[tuple[str, ...]]:
    """The timed steps as cells under `COLUMNS`, the cheapest first; a cell is "" in a column that says nothing."""
    costs = rec.workload.step_costs
    if costs is None:
        return []
    return [_row(c, rec) for c in sorted(costs.optimizers, key=lambda c: c.reliable)]


def trades(rec: Recommendation) -> list[Line]:
    """What each optimizer trades against tuned AdamW, and when it gets to where AdamW ends."""
    found = []
    for row in rec.optimizers:
        if not row.trade:
            continue
        words = row.trade
        if row.seconds_to_adamw is not None:
            own = next((r.seconds_to_adamw for r in rec.optimizers if r.optimizer == "adamw"), None)
            against = f" (AdamW: {duration(own)})" if own is not None else ""
            words += f"; at AdamW's final training loss after {duration(row.seconds_to_adamw)}{against}"
        elif row.seconds_to_adamw_reason.startswith("not reached"):
            words += f"; AdamW's final training loss: {row.seconds_to_adamw_reason}"
        found.append((name_of(row.optimizer, rec), words))
    if not found and any(r.expected is not None for r in rec.optimizers if r.optimizer != "adamw"):
        return [
            ("nothing", "tuned AdamW was not measured in this budget, so there is nothing to compare with")
        ]
    return found


def front(rec: Recommendation) -> list[str]:
    """Names on the Pareto front of loss, step time and memory, in the order of the table."""
    return [name_of(r.optimizer, rec) for r in rec.optimizers if r.pareto]


def _parts(speed: Speed) -> str:
    names = ("forward", "backward", "optimizer")
    parts = [p for p in (speed.forward, speed.backward, speed.optimizer) if p is not None]
    # Shares of the sum of the parts: on a busy machine it is less than the median of whole steps.
    whole = speed.data.seconds + (sum(p.seconds for p in parts) if parts else speed.step.seconds)

    def share(seconds: float) -> str:
        return f"{100 * seconds / whole:.0f} %" if whole > 0 else "?"

    words = [
        f"{duration(speed.data.seconds + speed.step.seconds)}: waiting for data {share(speed.data.seconds)}"
    ]
    if parts:
        words += [f"{name} {share(part.seconds)}" for name, part in zip(names, parts, strict=True)]
    else:
        words.append(f"forward, backward and optimizer {share(speed.step.seconds)}, one inside the other")
    return ", ".join(words)


def _how(speed: Speed) -> str:
    clock = "by events of the device" if speed.clock == "device" else "by the clock"
    middle = f"mean over periods of {speed.period}" if speed.period > 1 else "median"
    words = (
        f"{middle} of {speed.steps} steps {clock}, the middle half of them {duration(speed.step.low)} to "
        f"{duration(speed.step.high)} without data; left out: {speed.warmup_steps} steps of warm-up "
        f"({duration(speed.warmup_seconds)})"
    )
    if speed.compile_seconds:
        words += f", compiling {duration(speed.compile_seconds)}"
    return words


def _row(cost: StepCost, rec: Recommendation) -> tuple[str, ...]:
    ratio = number(cost.relative, 3)
    if cost.rounds > 1 and cost.relative_low < cost.relative_high:
        ratio += f" ({number(cost.relative_low, 3)} to {number(cost.relative_high, 3)})"
    if cost.reliable < cost.relative:  # what the planner went by
        ratio += f", fastest {number(cost.reliable, 3)}"
    middle = f"{duration(cost.low)} to {duration(cost.high)}" if cost.rounds > 1 else "once"
    if 1 < cost.rounds < ENOUGH_ROUNDS:
        middle += f" ({cost.rounds} rounds)"
    return (
        name_of(cost.optimizer, rec),
        duration(cost.seconds),
        middle,
        ratio,
        scaled(cost.samples_per_second) if cost.samples_per_second else "",
        scaled(cost.tokens_per_second) if cost.tokens_per_second else "",
        "" if cost.share is None else f"{100 * cost.share:.0f} %",
    )
