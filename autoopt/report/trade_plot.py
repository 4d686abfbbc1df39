"""The trade-off in one picture: final loss against step time, the memory as the size of the marker."""

from __future__ import annotations

from typing import Any

from autoopt.records import BASELINE, Expected, Recommendation, Row
from autoopt.report.figures import YOURS, Figure, colour, figure, interval_bars
from autoopt.report.words import duration, name_of, number, pace, scaled
from autoopt.tuning.limits import OVER

_SMALLEST, _LARGEST = 9.0, 34.0
"""Diameters in pixels; areas follow the memory."""


def trade(rec: Recommendation) -> Figure:
    """A marker for each optimizer that was trained as long as the recommended one; those on the front have a ring.

    The stepped line joins what nothing beats in loss and step time alone. An optimizer with a ring off that line is on
    the front for its memory.
    """
    rows = [
        (row, row.expected)
        for row in rec.optimizers
        if row.expected is not None
        and row.expected.loss is not None
        and row.expected.step_seconds
        and row.expected.steps == rec.expected.steps
    ]
    beside = _side_by_side(rec, [row.optimizer for row, _ in rows])
    shown = [(row, seen, 1e3 * (beside[row.optimizer] if beside else pace(row) or 0.0)) for row, seen in rows]
    most = max((_memory(seen) for _, seen, _ in shown), default=0)
    data = [*_line(shown), *(_marker(row, seen, x, most, rec) for row, seen, x in shown)]
    made = figure(data, "milliseconds per step" + (", timed side by side" if beside else ""), "final loss")
    if shown:
        made["note"] = (
            "The lower left is better. Areas are peak memory. A ring: on the Pareto front, no other is as good in loss, "
            "step time and memory. The dotted line is the front of loss and time alone. Open markers are over the limit."
        )
    return made


def _side_by_side(rec: Recommendation, names: list[str]) -> dict[str, float]:
    """Seconds of a step, as timed before the trials, which run beside others; empty unless all are known."""
    costs = rec.workload.step_costs
    if costs is None:
        return {}
    known = {c.optimizer: c.relative for c in costs.optimizers}
    adamw = next((c.seconds for c in costs.optimizers if c.optimizer == "adamw"), 0.0)
    own = rec.workload.baseline.registry_name or ""
    found = {n: adamw * known.get(own if n == BASELINE else n, 0.0) for n in names}
    return found if all(found.values()) else {}


def _over(row: Row) -> bool:
    return row.reason.startswith(OVER)


def _memory(seen: Expected) -> int:
    return seen.peak_bytes or seen.state_bytes or 0


def _line(shown: list[tuple[Row, Expected, float]]) -> list[dict[str, Any]]:
    best: list[tuple[float, float]] = []
    for x, y in sorted((x, s.loss or 0.0) for r, s, x in shown if not _over(r)):
        if not best or y < best[-1][1]:
            best.append((x, y))
    if len(best) < 2:
        return []
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "front of loss and time",
            "showlegend": False,
            "x": [x for x, _ in best],
            "y": [y for _, y in best],
            "line": {"color": YOURS, "width": 1.5, "dash": "dot", "shape": "hv"},
            "hoverinfo": "skip",
        }
    ]


def _marker(row: Row, seen: Expected, x: float, most: int, rec: Recommendation) -> dict[str, Any]:
    loss = seen.loss or 0.0
    share = _memory(seen) / most if most else 0.0
    label = name_of(row.optimizer, rec)
    chosen = row.status == "recommended"
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": label,
        "showlegend": False,
        "x": [x],
        "y": [loss],
        "text": [f"<b>{label}</b>" if chosen else label],
        "textposition": "top center",
        "cliponaxis": False,
        "error_y": interval_bars(seen),
        "marker": {
            "color": colour(row.optimizer, rec),
            "size": max(_SMALLEST, _LARGEST * share**0.5),
            "symbol": "circle-open" if _over(row) else "circle",
            "opacity": 0.9 if row.pareto else 0.45,
            "line": {"width": 2.5, "color": "#f59e0b"} if row.pareto else {"width": 1.5 * _over(row)},
        },
        "hovertemplate": f"{label}: {number(loss)}<br>{duration(x / 1e3)} a step<br>"
        f"{scaled(seen.peak_bytes, 'B')} peak, {scaled(seen.state_bytes, 'B')} state",
    }
