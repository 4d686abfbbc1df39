"""What all plots share: a figure as a plain dictionary, colours, the order of the optimizers."""

from __future__ import annotations

from typing import Any

from autoopt.records import BASELINE, Expected, Recommendation, TrialResult

Figure = dict[str, Any]

COLOURS = (
    "#3b82f6",
    "#f97316",
    "#10b981",
    "#e11d48",
    "#8b5cf6",
    "#d4a017",
    "#06b6d4",
    "#ec4899",
    "#65a30d",
    "#7c8aa5",
)
"""Told apart on white and on black."""
YOURS = "#94a3b8"
"""The colour of the user's own optimizer."""


def figure(data: list[Any], x: str, y: str, *, x_log: bool = False, y_log: bool = False) -> Figure:
    """Traces with titled axes; the page adds its colours and margins."""

    def axis(title: str, log: bool) -> dict[str, Any]:
        return {"title": {"text": title}, "type": "log" if log else "-", "automargin": True}

    return {"data": data, "layout": {"xaxis": axis(x, x_log), "yaxis": axis(y, y_log)}, "note": ""}


def by_optimizer(rec: Recommendation, results: list[TrialResult]) -> dict[str, list[TrialResult]]:
    """Trials by optimizer, in the order of the final table."""
    found = {
        name: [r for r in results if r.spec.optimizer == name]
        for name in in_order(rec, [r.spec.optimizer for r in results])
    }
    return {name: own for name, own in found.items() if own}


def in_order(rec: Recommendation, names: list[str]) -> list[str]:
    """Optimizers in the order of the final table, others after them."""
    order = [row.optimizer for row in rec.optimizers if row.optimizer in names]
    return list(dict.fromkeys([*order, *names]))


def colour(name: str, rec: Recommendation) -> str:
    """An optimizer's, the same in every plot."""
    return YOURS if name == BASELINE else COLOURS[_number(name, rec) % len(COLOURS)]


def dash(name: str, rec: Recommendation) -> str:
    """The user's own is dashed; lines that share their colour with another one are dotted."""
    if name == BASELINE:
        return "dash"
    return "solid" if _number(name, rec) < len(COLOURS) else "dot"


def _number(name: str, rec: Recommendation) -> int:
    order = [row.optimizer for row in rec.optimizers if row.optimizer != BASELINE]
    return order.index(name) if name in order else len(order)


def wide(values: list[float]) -> bool:
    """Whether a logarithmic axis shows more: positive values over more than a decade."""
    return bool(values) and min(values) > 0 and max(values) > 10 * min(values)


def interval_bars(seen: Expected) -> dict[str, Any]:
    """Error bars from the expected loss to the ends of its interval; invisible without one."""
    if seen.low is None or seen.high is None or seen.loss is None:
        return {"visible": False}
    return {
        "type": "data",
        "symmetric": False,
        "array": [seen.high - seen.loss],
        "arrayminus": [seen.loss - seen.low],
        "thickness": 1.2,
        "width": 3,
    }
