"""Loss against learning rate: what every length measured, and what is believed of the real one."""

from __future__ import annotations

import math
from typing import Any

from autoopt.records import BASELINE, Outcome, RateCurve, Recommendation, TrialResult
from autoopt.report.figures import Figure, by_optimizer, colour, figure, wide
from autoopt.report.words import name_of, number

_MARKERS = ("circle", "diamond", "square", "triangle-up", "star", "cross", "hexagon")
_ROOM, _MARGIN = 0.3, 0.04
"""Shares of the axis: for the band beyond what was measured, and beyond all of it."""


def rates(rec: Recommendation, results: list[TrialResult]) -> Figure:
    """A dotted line for each optimizer and length, a marker for each length; the belief at the real length over them.

    Only the optimizers with such a curve are drawn at first: a click on the legend shows the others.
    """
    lengths = sorted({r.spec.steps for r in results})
    of = rec.rates[0].of if rec.rates else "loss"
    finite = [v for r in results if (v := _value(r, of)) is not None]
    # What ends above the untrained loss has failed as surely as what diverged, and would flatten the rest.
    worst = max(finite, default=1.0)
    worst = min(worst, rec.workload.initial_loss * 1.1) if of == "loss" else min(finite, default=0.0)
    drawn = {c.optimizer for c in rec.rates}
    data: list[dict[str, Any]] = []
    for i, curve in enumerate(rec.rates):
        data += _belief(curve, rec, first=i == 0)
    for name, own in by_optimizer(rec, results).items():
        shown = not drawn or name in drawn
        traces = [
            t for steps in lengths if (t := _measured(name, own, steps, lengths, rec, of, worst)) is not None
        ]
        for i, trace in enumerate(traces):
            first = i == 0 and name not in drawn
            data.append(trace | {"showlegend": first, "visible": True if shown else "legendonly"})
    made = figure(data, "learning rate", f"final {of}", x_log=True, y_log=wide(finite))
    if rec.rates:
        made["layout"]["yaxis"]["range"] = _range(finite, worst, rec.rates, log=wide(finite))
    made["layout"]["xaxis"] |= {"exponentformat": "power", "dtick": 1}
    made["layout"]["shapes"] = _recommended(rec)
    made["note"] = _note(rec, lengths)
    return made


def _belief(curve: RateCurve, rec: Recommendation, *, first: bool) -> list[dict[str, Any]]:
    """The line at the real length; the first one with its 90 % band."""
    xs, tint = [p.rate for p in curve.points], colour(curve.optimizer, rec)
    common = {"type": "scatter", "mode": "lines", "x": xs, "legendgroup": curve.optimizer}
    edge = common | {"line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    band = [
        edge | {"name": "band", "y": [p.low for p in curve.points]},
        edge
        | {
            "name": "band",
            "y": [p.high for p in curve.points],
            "fill": "tonexty",
            "fillcolor": _faint(tint),
        },
    ]
    line = common | {
        "name": name_of(curve.optimizer, rec),
        "y": [p.mean for p in curve.points],
        "line": {"color": tint, "width": 3 if first else 1.8},
        "text": [f"{number(p.mean)} [{number(p.low, 3)}, {number(p.high, 3)}]" for p in curve.points],
        "hovertemplate": f"lr %{{x:.3g}}, believed at {curve.steps} steps: %{{text}}",
        "showlegend": True,
    }
    return [*(band if first else []), line]


def _measured(
    name: str,
    own: list[TrialResult],
    steps: int,
    lengths: list[int],
    rec: Recommendation,
    of: str,
    worst: float,
) -> dict[str, Any] | None:
    """The trials of one optimizer and length; those that failed are crosses at the worst value."""
    points = [(r.spec.hyper["lr"], r) for r in own if r.spec.steps == steps and "lr" in r.spec.hyper]
    if name == BASELINE and (rate := rec.workload.baseline.hyper.get("lr")) is not None:
        points = [(r.spec.hyper.get("lr", rate), r) for r in own if r.spec.steps == steps]
    points = [(lr, r) for lr, r in points if r.loss is not None or r.outcome is Outcome.DIVERGED]
    points.sort(key=lambda point: point[0])
    if not points:
        return None
    values = [_value(r, of) for _, r in points]
    lost = [v is None or (of == "loss" and v > worst) for v in values]
    symbol = _MARKERS[lengths.index(steps) % len(_MARKERS)]
    return {
        "type": "scatter",
        "mode": "markers+lines",
        "name": name_of(name, rec),
        "legendgroup": name,
        "x": [lr for lr, _ in points],
        "y": [worst if bad or v is None else v for v, bad in zip(values, lost, strict=True)],
        "text": [_trial(r) for _, r in points],
        "hovertemplate": "lr %{x:.3g}: %{text}",
        "line": {"color": colour(name, rec), "width": 1, "dash": "dot"},
        "marker": {
            "color": colour(name, rec),
            "size": 9,
            "symbol": ["x" if bad else symbol for bad in lost],
        },
    }


def _range(finite: list[float], worst: float, curves: list[RateCurve], *, log: bool) -> list[float]:
    """From what is best, measured or believed, to what is worst, and some of the band around the best."""
    loss = curves[0].of == "loss"
    ends = [worst, *finite, *(p.mean for c in curves for p in c.points)]
    ends = [v for v in ends if v <= worst or not loss]
    best = (min if loss else max)(curves[0].points, key=lambda p: p.mean)
    around = [best.low, *([] if loss else [best.high])]
    if log:
        ends, around = ([math.log10(v) for v in values if v > 0] for values in (ends, around))
    low, high = min(ends), max(ends)
    # A wide band would flatten what was measured.
    room = _ROOM * (high - low) or 1.0
    low, high = max(low - room, min([low, *around])), min(high + room, max([high, *around]))
    margin = _MARGIN * (high - low) or 1.0
    return [low - margin, high + margin]


def _recommended(rec: Recommendation) -> list[dict[str, Any]]:
    """The recommended rate as a line, the interval of the best one as a shade."""
    common = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    tint, choice = colour(rec.recommendation.optimizer, rec), rec.recommendation
    shapes = []
    if choice.lr_interval is not None:
        low, high = choice.lr_interval
        shade = {"type": "rect", "x0": low, "x1": high, "fillcolor": tint, "opacity": 0.08}
        shapes.append(common | shade | {"line": {"width": 0}})
    if "lr" in choice.hyper:
        rate = choice.hyper["lr"]
        line = {"color": tint, "width": 1.5, "dash": "dash"}
        shapes.append(common | {"type": "line", "x0": rate, "x1": rate, "line": line})
    return shapes


def _note(rec: Recommendation, lengths: list[int]) -> str:
    shapes = ", ".join(f"{_MARKERS[i % len(_MARKERS)]} {steps}" for i, steps in enumerate(lengths))
    text = f"Marker by steps: {shapes}. A cross ended diverged, or above the loss before training."
    if not rec.rates:
        return text
    curve = rec.rates[0]
    text += (
        f" Solid lines: what is believed at the real run's {curve.steps} steps, for the recommended optimizer with its "
        "90 % band. Dashed: the recommended rate; shaded: where the best one lies with 90 % probability."
    )
    if curve.height_steps < curve.steps:
        text += f" Their shape is that of the real length, their height that of trials of {curve.height_steps} steps."
    return text + " A click on a name shows or hides it."


def _value(result: TrialResult, of: str) -> float | None:
    if result.outcome is not Outcome.COMPLETED:
        return None
    return result.loss if of == "loss" else result.metric


def _trial(result: TrialResult) -> str:
    what = number(result.loss) if result.loss is not None else "diverged"
    return f"{what} after {result.steps_done} steps, seed {result.spec.seed}"


def _faint(tint: str) -> str:
    """A colour one can see through.

    >>> _faint("#3b82f6")
    'rgba(59, 130, 246, 0.15)'
    """
    red, green, blue = (int(tint[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.15)"
