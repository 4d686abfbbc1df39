"""The page's plots as plotly figures: plain dictionaries, which the page draws in the reader's colours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autoopt.options import in_own_steps
from autoopt.records import Expected, Outcome, Recommendation, TrialResult
from autoopt.report.figures import YOURS, Figure, by_optimizer, colour, dash, figure, interval_bars, wide
from autoopt.report.promise_plot import promise
from autoopt.report.race_plots import effort, race
from autoopt.report.rate_plot import rates
from autoopt.report.trade_plot import trade
from autoopt.report.words import duration, name_of, number, pace, scaled


def all_figures(rec: Recommendation, results: list[TrialResult]) -> dict[str, Figure]:
    """Figures by the id of their place in the page; one without data is left out."""
    made = {
        "rates": rates(rec, results),
        "race": race(rec),
        "effort": effort(rec),
        "curves": curves(rec, results),
        "promise": promise(rec),
        "time": trade(rec),
        "memory": front(rec, "peak memory, bytes", lambda expected: expected.peak_bytes),
    }
    return {name: drawn for name, drawn in made.items() if drawn["data"]}


def curves(rec: Recommendation, results: list[TrialResult]) -> Figure:
    """Training loss by step: for each optimizer the best of its longest trials."""
    data: list[dict[str, Any]] = []
    for name, own in by_optimizer(rec, results).items():
        done = [r for r in own if r.outcome is Outcome.COMPLETED and r.loss is not None and r.curve]
        if not done:
            continue
        best = min(done, key=lambda r: (-r.spec.steps, r.loss if r.loss is not None else 0.0))
        steps, losses = zip(*in_own_steps(best.curve, best.spec.hyper), strict=True)
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name_of(name, rec),
                "x": list(steps),
                "y": list(losses),
                "line": {"color": colour(name, rec), "width": 2, "dash": dash(name, rec)},
                "hovertemplate": f"lr {number(best.spec.hyper.get('lr'), 2)}<br>step %{{x}}: %{{y:.4g}}",
            }
        )
    return figure(data, "step", "training loss", y_log=wide([y for trace in data for y in trace["y"]]))


def front(rec: Recommendation, title: str, cost: Callable[[Expected], float | None]) -> Figure:
    """Final loss by a cost; the Pareto front is what nothing beats in both."""
    full = [
        (value, row.expected.loss, row)
        for row in rec.optimizers
        if row.expected is not None
        and row.expected.loss is not None
        and row.expected.steps == rec.expected.steps
        and (value := cost(row.expected))
    ]
    largest = max((value for value, _, _ in full), default=0.0)
    data: list[dict[str, Any]] = []
    best: list[tuple[float, float]] = []
    for value, loss, _ in sorted(full, key=lambda item: (item[0], item[1])):
        if not best or loss < best[-1][1]:
            best.append((value, loss))
    if len(best) > 1:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "Pareto front",
                "x": [x for x, _ in best],
                "y": [y for _, y in best],
                "line": {"color": YOURS, "width": 1.5, "dash": "dot", "shape": "hv"},
                "hoverinfo": "skip",
            }
        )
    for value, loss, row in full:
        seen = row.expected
        assert seen is not None
        label = name_of(row.optimizer, rec)
        data.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "name": label,
                "showlegend": False,
                "x": [value],
                "y": [loss],
                "text": [label],
                # To the right of the last ones there is no room.
                "textposition": "top left" if value > 0.75 * largest else "top center",
                "cliponaxis": False,
                "error_y": interval_bars(seen),
                "marker": {
                    "color": colour(row.optimizer, rec),
                    "size": 14 if row.status == "recommended" else 9,
                    "symbol": "star" if row.status == "recommended" else "circle",
                },
                "hovertemplate": f"{number(loss)}<br>{duration(pace(row))} a step<br>"
                f"{scaled(seen.peak_bytes, 'B')} peak",
            }
        )
    made = figure(data, title, "final loss")
    made["layout"]["xaxis"] |= {"tickformat": "~s", "rangemode": "tozero"}
    return made
