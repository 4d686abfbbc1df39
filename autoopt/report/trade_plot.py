"""The trade-off in one picture: final loss against step time, the memory as the size of the marker."""

from __future__ import annotations

from typing import Any

from autoopt.records import Expected, Recommendation, Row
from autoopt.report.figures import YOURS, Figure, colour, figure
from autoopt.report.words import duration, name_of, number, scaled

_SMALLEST, _LARGEST = 9.0, 34.0
"""Diameters in pixels; areas follow the memory."""


def trade(rec: Recommendation) -> Figure:
    """A marker for each optimizer that was trained as long as the recommended one; those on the front have a ring.

    The stepped line joins what nothing beats in loss and step time alone. An optimizer with a ring off that line is on
    the front for its memory.
    """
    shown = [
        (row, row.expected)
        for row in rec.optimizers
        if row.expected is not None
        and row.expected.loss is not None
        and row.expected.step_seconds
        and row.expected.steps == rec.expected.steps
    ]
    most = max((_memory(seen) for _, seen in shown), default=0)
    data = [*_line(shown), *(_marker(row, seen, most, rec) for row, seen in shown)]
    made = figure(data, "milliseconds per step", "final loss")
    made["layout"]["xaxis"] |= {"rangemode": "tozero"}
    if shown:
        made["note"] = (
            "The lower left is better. Areas are peak memory. A ring: on the Pareto front, no other is as good in loss, "
            "step time and memory. The dotted line is the front of loss and time alone."
        )
    return made


def _memory(seen: Expected) -> int:
    return seen.peak_bytes or seen.state_bytes or 0


def _line(shown: list[tuple[Row, Expected]]) -> list[dict[str, Any]]:
    best: list[tuple[float, float]] = []
    for x, y in sorted((1e3 * (s.step_seconds or 0.0), s.loss or 0.0) for _, s in shown):
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


def _marker(row: Row, seen: Expected, most: int, rec: Recommendation) -> dict[str, Any]:
    loss = seen.loss or 0.0
    share = _memory(seen) / most if most else 0.0
    error: dict[str, Any] = {"visible": False}
    if seen.low is not None and seen.high is not None:
        error = {
            "type": "data",
            "symmetric": False,
            "array": [seen.high - loss],
            "arrayminus": [loss - seen.low],
            "thickness": 1.2,
            "width": 3,
        }
    label = name_of(row.optimizer, rec)
    chosen = row.status == "recommended"
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": label,
        "showlegend": False,
        "x": [1e3 * (seen.step_seconds or 0.0)],
        "y": [loss],
        "text": [f"<b>{label}</b>" if chosen else label],
        "textposition": "top center",
        "cliponaxis": False,
        "error_y": error,
        "marker": {
            "color": colour(row.optimizer, rec),
            "size": max(_SMALLEST, _LARGEST * share**0.5),
            "symbol": "circle",
            "opacity": 0.9 if row.pareto else 0.45,
            "line": {"width": 2.5 if row.pareto else 0, "color": "#f59e0b"},
        },
        "hovertemplate": f"{label}: {number(loss)}<br>{duration(seen.step_seconds)} a step<br>"
        f"{scaled(seen.peak_bytes, 'B')} peak, {scaled(seen.state_bytes, 'B')} state",
    }
