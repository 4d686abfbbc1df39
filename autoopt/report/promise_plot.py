"""The promise: where the real run's losses should lie."""

from __future__ import annotations

import math
from typing import Any

from autoopt.records import Recommendation
from autoopt.report.figures import Figure, colour, figure

_KINDS = {"training loss": "circle", "validation loss": "diamond"}


def promise(rec: Recommendation) -> Figure:
    """A bar of 90 % probability at each checkpoint of the real run."""
    data: list[dict[str, Any]] = []
    tint = colour(rec.recommendation.optimizer, rec)
    for kind, symbol in _KINDS.items():
        bands = [b for b in rec.promise if b.of == kind]
        if not bands:
            continue
        # Bands are even in the logarithm of a loss.
        middle = [math.sqrt(b.low * b.high) if b.low > 0 else (b.low + b.high) / 2 for b in bands]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(bands) > 1 else "markers",
                "name": kind,
                "x": [b.step for b in bands],
                "y": middle,
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [b.high - m for b, m in zip(bands, middle, strict=True)],
                    "arrayminus": [m - b.low for b, m in zip(bands, middle, strict=True)],
                    "thickness": 2,
                    "width": 7,
                },
                "text": [f"[{b.low:.4g}, {b.high:.4g}] at {100 * b.share:g} % of the run" for b in bands],
                "hovertemplate": "%{text}",
                "line": {"color": tint, "width": 1, "dash": "dot"},
                "marker": {"color": tint, "size": 9, "symbol": symbol},
            }
        )
    log = len(rec.promise) > 2
    made = figure(data, "step of the real run", "loss", x_log=log)
    if not log:
        made["layout"]["xaxis"] |= {"range": [0, 1.05 * rec.recommendation.steps]}
    made["layout"]["yaxis"] |= {"rangemode": "tozero"}
    top = max((b.high for b in rec.promise), default=0.0)
    worst = 1.1 * max(rec.workload.initial_loss, rec.workload.first_loss)
    if 0 < worst < top:  # a band that reaches above no training at all says nothing there
        made["layout"]["yaxis"] |= {"range": [min(0.0, *(b.low for b in rec.promise)), worst]}
    made["note"] = (
        "With 90 % probability: the training loss as the mean since the checkpoint before, the validation loss at the end."
    )
    return made
