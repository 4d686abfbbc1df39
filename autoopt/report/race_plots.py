"""The race and what it took: chances over the rounds, and trials' seconds for each optimizer."""

from __future__ import annotations

from typing import Any

from autoopt.records import BASELINE, Recommendation
from autoopt.report.figures import COLOURS, Figure, colour, dash, figure, in_order
from autoopt.report.words import duration, name_of

_LEAST = 0.03
"""Chance below which an optimizer is out; the dotted line."""
_DRAWN = 8
"""Lines that are drawn at first: those that once had the highest chances."""


def race(rec: Recommendation) -> Figure:
    """The chance of having the best configuration after each round, a line for each optimizer."""
    known = [r for r in rec.race if r.chances]
    names = in_order(rec, list(dict.fromkeys(n for r in known for n in r.chances)))
    highest = {n: max(r.chances.get(n, 0.0) for r in known) for n in names}
    drawn = sorted(names, key=lambda n: -highest[n])[:_DRAWN]
    data: list[dict[str, Any]] = []
    for name in names:
        own = [r for r in known if name in r.chances]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name_of(name, rec),
                "visible": True if name in drawn else "legendonly",
                "x": [r.name for r in own],
                "y": [100 * r.chances[name] for r in own],
                "text": [_happened(name, r.trials.get(name, 0), r.left.get(name)) for r in own],
                "hovertemplate": "%{y:.1f} % after %{x}%{text}",
                "line": {"color": colour(name, rec), "width": 2, "dash": dash(name, rec)},
                "marker": {
                    "color": colour(name, rec),
                    "size": 9,
                    "symbol": [_symbol(r.trials.get(name, 0), name in r.left) for r in own],
                },
            }
        )
    made = figure(data, "", "chance of being best, %")
    made["layout"]["xaxis"] |= {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": [r.name for r in known],
    }
    made["layout"]["yaxis"] |= {"rangemode": "tozero"}
    made["layout"]["shapes"] = [
        {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "yref": "y",
            "y0": 100 * _LEAST,
            "y1": 100 * _LEAST,
            "line": {"color": "#94a3b8", "width": 1, "dash": "dot"},
        }
    ]
    made["note"] = (
        "As believed after each round. Full markers had a trial in it, open ones had none, crosses left after it: "
        f"below {100 * _LEAST:.0f} % (dotted) an optimizer gets no trials. A click on a name shows or hides it."
    )
    return made


def effort(rec: Recommendation) -> Figure:
    """Seconds of trials for each optimizer, by stage: a comparison is fair where the bars are alike."""
    names = in_order(rec, list(dict.fromkeys(e.optimizer for e in rec.effort)))
    data = []
    for i, stage in enumerate(dict.fromkeys(e.stage for e in rec.effort)):
        own = {e.optimizer: e for e in rec.effort if e.stage == stage}
        there = [own[n] for n in names if n in own]
        data.append(
            {
                "type": "bar",
                "name": stage,
                "orientation": "h",
                "y": [name_of(e.optimizer, rec) for e in there],
                "x": [e.seconds for e in there],
                "text": [e.trials for e in there],
                "textposition": "inside",
                "insidetextanchor": "middle",
                "textangle": 0,
                "customdata": [f"{e.trials} trials, {e.steps} steps, {duration(e.seconds)}" for e in there],
                "hovertemplate": "%{customdata}",
                "marker": {"color": COLOURS[i % len(COLOURS)], "opacity": 0.85},
            }
        )
    made = figure(data, "seconds of trials", "")
    made["layout"] |= {"barmode": "stack"}
    made["layout"]["yaxis"] |= {
        "categoryorder": "array",
        "categoryarray": [name_of(n, rec) for n in reversed(names)],
    }
    made["note"] = "Numbers in the bars are trials."
    return made


def _symbol(trials: int, left: bool) -> str:
    return "x" if left else "circle" if trials else "circle-open"


def _happened(name: str, trials: int, left: str | None) -> str:
    words = f", {trials} trial{'s' * (trials != 1)} in it" if trials else ""
    return words + (f"; left: {left}" if left and name != BASELINE else "")
