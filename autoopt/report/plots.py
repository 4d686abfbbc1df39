"""The page's plots as plotly figures: plain dictionaries, which the page draws in the reader's colours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autoopt.records import BASELINE, Expected, Outcome, Recommendation, TrialResult
from autoopt.report.words import duration, name_of, number, scaled

Figure = dict[str, Any]

_COLOURS = (
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
_YOURS = "#94a3b8"
_MARKERS = ("circle", "diamond", "square", "triangle-up", "star", "cross", "hexagon")


def all_figures(rec: Recommendation, results: list[TrialResult]) -> dict[str, Figure]:
    """Figures by the id of their place in the page; one without data is left out."""
    made = {
        "curves": curves(rec, results),
        "rates": rates(rec, results),
        "time": front(rec, "seconds per step", lambda expected: expected.step_seconds),
        "memory": front(rec, "peak memory, bytes", lambda expected: expected.peak_bytes),
        "effort": effort(rec, results),
    }
    return {name: figure for name, figure in made.items() if figure["data"]}


def curves(rec: Recommendation, results: list[TrialResult]) -> Figure:
    """Training loss by step: for each optimizer the best of its longest trials."""
    data = []
    for name, own in _by_optimizer(rec, results).items():
        done = [r for r in own if r.outcome is Outcome.COMPLETED and r.loss is not None and r.curve]
        if not done:
            continue
        best = min(done, key=lambda r: (-r.spec.steps, r.loss if r.loss is not None else 0.0))
        steps, losses = zip(*best.curve, strict=True)
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name_of(name, rec),
                "x": list(steps),
                "y": list(losses),
                "line": {"color": _colour(name, rec), "width": 2, "dash": _dash(name)},
                "hovertemplate": f"lr {number(best.spec.hyper.get('lr'), 2)}<br>step %{{x}}: %{{y:.4g}}",
            }
        )
    return _figure(data, "step", "training loss", y_log=_wide([y for trace in data for y in _ys(trace)]))


def rates(rec: Recommendation, results: list[TrialResult]) -> Figure:
    """Final loss by learning rate: a line for each optimizer and length, a marker for each length."""
    lengths = sorted({r.spec.steps for r in results})
    finite = [r.loss for r in results if r.loss is not None]
    # What ends above the untrained loss has failed as surely as what diverged, and would flatten the rest.
    ceiling = min(max(finite, default=1.0), rec.workload.initial_loss * 1.1)
    data: list[dict[str, Any]] = []
    for name, own in _by_optimizer(rec, results).items():
        first = True
        for steps in lengths:
            points = [(r.spec.hyper["lr"], r) for r in own if r.spec.steps == steps and "lr" in r.spec.hyper]
            points = [(lr, r) for lr, r in points if r.loss is not None or r.outcome is Outcome.DIVERGED]
            points.sort(key=lambda point: point[0])
            if not points:
                continue
            lost = [r.loss is None or r.loss > ceiling for _, r in points]
            symbol = _MARKERS[lengths.index(steps) % len(_MARKERS)]
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers+lines",
                    "name": name_of(name, rec),
                    "legendgroup": name,
                    "showlegend": first,
                    "x": [lr for lr, _ in points],
                    "y": [
                        ceiling if bad or r.loss is None else r.loss
                        for (_, r), bad in zip(points, lost, strict=True)
                    ],
                    "text": [_trial(r) for _, r in points],
                    "hovertemplate": "lr %{x:.3g}: %{text}",
                    "line": {"color": _colour(name, rec), "width": 1, "dash": "dot"},
                    "marker": {
                        "color": _colour(name, rec),
                        "size": 9,
                        "symbol": ["x" if bad else symbol for bad in lost],
                    },
                }
            )
            first = False
    shapes = ", ".join(f"{_MARKERS[i % len(_MARKERS)]} {steps}" for i, steps in enumerate(lengths))
    figure = _figure(data, "learning rate", "final loss", x_log=True, y_log=_wide(finite))
    figure["layout"]["xaxis"] |= {"exponentformat": "power", "dtick": 1}
    figure["note"] = f"Marker by steps: {shapes}. A cross ended diverged, or above the loss before training."
    return figure


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
                "line": {"color": _YOURS, "width": 1.5, "dash": "dot", "shape": "hv"},
                "hoverinfo": "skip",
            }
        )
    for value, loss, row in full:
        seen = row.expected
        assert seen is not None
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
                "error_y": error,
                "marker": {
                    "color": _colour(row.optimizer, rec),
                    "size": 14 if row.status == "recommended" else 9,
                    "symbol": "star" if row.status == "recommended" else "circle",
                },
                "hovertemplate": f"{number(loss)}<br>{duration(seen.step_seconds)} a step<br>"
                f"{scaled(seen.peak_bytes, 'B')} peak",
            }
        )
    figure = _figure(data, title, "final loss")
    figure["layout"]["xaxis"] |= {"tickformat": "~s", "rangemode": "tozero"}
    return figure


def effort(rec: Recommendation, results: list[TrialResult]) -> Figure:
    """Seconds of trials for each optimizer, by stage: a comparison is fair where the bars are alike."""
    grouped = _by_optimizer(rec, results)
    stages = list(dict.fromkeys(r.spec.stage for r in results))
    data = []
    for i, stage in enumerate(stages):
        spent = [
            sum(r.seconds.get("total", 0.0) for r in own if r.spec.stage == stage) for own in grouped.values()
        ]
        counts = [sum(r.spec.stage == stage for r in own) for own in grouped.values()]
        data.append(
            {
                "type": "bar",
                "name": stage,
                "orientation": "h",
                "y": [name_of(name, rec) for name in grouped],
                "x": [round(s, 3) for s in spent],
                "text": counts,
                "textposition": "none",
                "hovertemplate": "%{x:.3g} s, %{text} trials",
                "marker": {"color": _COLOURS[i % len(_COLOURS)], "opacity": 0.85},
            }
        )
    figure = _figure(data, "seconds of trials", "")
    figure["layout"] |= {"barmode": "stack"}
    figure["layout"]["yaxis"] |= {"autorange": "reversed"}
    return figure


def _figure(data: list[Any], x: str, y: str, *, x_log: bool = False, y_log: bool = False) -> Figure:
    def axis(title: str, log: bool) -> dict[str, Any]:
        return {"title": {"text": title}, "type": "log" if log else "-", "automargin": True}

    return {"data": data, "layout": {"xaxis": axis(x, x_log), "yaxis": axis(y, y_log)}, "note": ""}


def _by_optimizer(rec: Recommendation, results: list[TrialResult]) -> dict[str, list[TrialResult]]:
    """Trials by optimizer, in the order of the final table."""
    order = [row.optimizer for row in rec.optimizers]
    names = dict.fromkeys([*order, *(r.spec.optimizer for r in results)])
    found = {name: [r for r in results if r.spec.optimizer == name] for name in names}
    return {name: own for name, own in found.items() if own}


def _colour(name: str, rec: Recommendation) -> str:
    if name == BASELINE:
        return _YOURS
    order = [row.optimizer for row in rec.optimizers if row.optimizer != BASELINE]
    return _COLOURS[(order.index(name) if name in order else len(order)) % len(_COLOURS)]


def _dash(name: str) -> str:
    return "dash" if name == BASELINE else "solid"


def _trial(result: TrialResult) -> str:
    what = number(result.loss) if result.loss is not None else "diverged"
    return f"{what} after {result.steps_done} steps, seed {result.spec.seed}"


def _ys(trace: dict[str, Any]) -> list[float]:
    return list(trace["y"])


def _wide(values: list[float]) -> bool:
    """Whether a logarithmic axis shows more: positive values over more than a decade."""
    return bool(values) and min(values) > 0 and max(values) > 10 * min(values)
