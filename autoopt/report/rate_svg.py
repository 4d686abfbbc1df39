"""Loss against learning rate as an SVG picture that needs no script: for places where plotly's is too large."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

from autoopt.records import RateCurve, Recommendation, Row
from autoopt.report.figures import colour, wide
from autoopt.report.words import name_of, number, rate_of

_WIDTH, _HEIGHT = 640, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 10, 40
Scale = Callable[[float], float]


def draw(rec: Recommendation) -> str:
    """The picture; empty when nothing is believed of any rate."""
    if not rec.rates:
        return ""
    of, dots = rec.rates[0].of, _dots(rec)
    rates = [p.rate for curve in rec.rates for p in curve.points] + [rate for _, rate, _ in dots]
    values = [p.mean for curve in rec.rates for p in curve.points] + [value for _, _, value in dots]
    if of == "loss":  # beyond the untrained loss nothing can be told apart
        values = [value for value in values if value <= 1.1 * rec.workload.initial_loss] or values
    log = wide(values)
    x = _scale(min(rates), max(rates), _LEFT, _WIDTH - _RIGHT, log=True)
    y = _scale(*_room(min(values), max(values), log=log), _HEIGHT - _BOTTOM, _TOP, log=log)
    low, high = _room(min(values), max(values), log=log)
    parts = [
        *_axis_x(min(rates), max(rates), x),
        *_axis_y(low, high, y, log=log),
        *_recommended(rec, x),
        _band(rec.rates[0], rec, x, y, (low, high)),
        *(_line(curve, rec, x, y, first=i == 0) for i, curve in enumerate(rec.rates)),
        *(_dot(row, rec, x(rate), y(value)) for row, rate, value in dots if low <= value <= high),
        _text(_LEFT + (_WIDTH - _LEFT - _RIGHT) / 2, _HEIGHT - 4, "learning rate"),
        f'<g transform="translate(12 {_TOP + (_HEIGHT - _TOP - _BOTTOM) / 2:.0f}) rotate(-90)">'
        f"{_text(0, 0, f'final {of}')}</g>",
    ]
    label = f"final {of} against learning rate; recommended: {number(rec.recommendation.hyper.get('lr'))}"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="{escape(label)}" '
        f'style="max-width: 100%; height: auto; font: 11px system-ui, sans-serif">{"".join(parts)}</svg>'
    )


def legend(rec: Recommendation) -> list[tuple[str, str]]:
    """(name, colour) of what is drawn."""
    drawn = dict.fromkeys([*(c.optimizer for c in rec.rates), *(row.optimizer for row, _, _ in _dots(rec))])
    return [(name_of(name, rec), colour(name, rec)) for name in drawn]


def _dots(rec: Recommendation) -> list[tuple[Row, float, float]]:
    """Each optimizer's best, where it was trained as long as the recommended one."""
    found = []
    for row in rec.optimizers:
        seen, rate = row.expected, rate_of(row, rec)
        if seen is None or rate is None or not rate > 0 or seen.steps != rec.expected.steps:
            continue
        value = seen.loss if rec.rates and rec.rates[0].of == "loss" else seen.metric
        if value is not None:
            found.append((row, rate, value))
    return found


def _scale(low: float, high: float, start: float, end: float, *, log: bool) -> Scale:
    bend: Scale = math.log10 if log else float
    first, last = bend(low), bend(high)
    span = (last - first) or 1.0
    return lambda value: start + (end - start) * (bend(value) - first) / span


def _room(low: float, high: float, *, log: bool) -> tuple[float, float]:
    """Some more than what is drawn."""
    if log:
        return low / (high / low) ** 0.06, high * (high / low) ** 0.06
    margin = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def _axis_x(low: float, high: float, x: Scale) -> list[str]:
    ticks = [
        10.0**n for n in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    ]
    parts = []
    for tick in ticks:
        parts.append(_rule(x(tick), _TOP, x(tick), _HEIGHT - _BOTTOM))
        parts.append(_text(x(tick), _HEIGHT - _BOTTOM + 15, f"{tick:g}"))
    return parts


def _axis_y(low: float, high: float, y: Scale, *, log: bool) -> list[str]:
    if log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [m * 10.0**n for n in decades for m in (1, 2, 5)]
    else:
        rough = (high - low) / 4
        step = min(
            (m * 10.0 ** math.floor(math.log10(rough)) for m in (1, 2, 5, 10)), key=lambda s: abs(s - rough)
        )
        ticks = [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    parts = []
    for tick in ticks:
        if low <= tick <= high:
            parts.append(_rule(_LEFT, y(tick), _WIDTH - _RIGHT, y(tick)))
            parts.append(_text(_LEFT - 6, y(tick) + 4, f"{tick:.4g}", anchor="end"))
    return parts


def _recommended(rec: Recommendation, x: Scale) -> list[str]:
    tint, choice, parts = colour(rec.recommendation.optimizer, rec), rec.recommendation, []

    def inside(rate: float) -> float:
        return min(max(x(rate), _LEFT), _WIDTH - _RIGHT)

    if choice.lr_interval is not None:
        left, right = (inside(rate) for rate in choice.lr_interval)
        parts.append(
            f'<rect x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" height="{_HEIGHT - _TOP - _BOTTOM}" '
            f'fill="{tint}" opacity="0.08"/>'
        )
    if "lr" in choice.hyper:
        at = inside(choice.hyper["lr"])
        parts.append(
            f'<line x1="{at:.1f}" y1="{_TOP}" x2="{at:.1f}" y2="{_HEIGHT - _BOTTOM}" stroke="{tint}" '
            'stroke-width="1.5" stroke-dasharray="5 4"/>'
        )
    return parts


def _band(curve: RateCurve, rec: Recommendation, x: Scale, y: Scale, ends: tuple[float, float]) -> str:
    upper = [(x(p.rate), y(_within(p.high, ends))) for p in curve.points]
    lower = [(x(p.rate), y(_within(p.low, ends))) for p in curve.points]
    return f'<polygon points="{_points(upper + lower[::-1])}" fill="{colour(curve.optimizer, rec)}" opacity="0.15"/>'


def _line(curve: RateCurve, rec: Recommendation, x: Scale, y: Scale, *, first: bool) -> str:
    drawn = [(x(p.rate), y(p.mean)) for p in curve.points if y(p.mean) >= _TOP]
    return (
        f'<polyline points="{_points(drawn)}" fill="none" stroke="{colour(curve.optimizer, rec)}" '
        f'stroke-width="{2.5 if first else 1.5}"/>'
    )


def _dot(row: Row, rec: Recommendation, x: float, y: float) -> str:
    seen = row.expected
    told = f"{name_of(row.optimizer, rec)}: {number(seen.loss if seen else None)} at lr {number(rate_of(row, rec))}"
    size = 5.5 if row.status == "recommended" else 4
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{colour(row.optimizer, rec)}">'
        f"<title>{escape(told)}</title></circle>"
    )


def _within(value: float, ends: tuple[float, float]) -> float:
    return min(max(value, ends[0]), ends[1])


def _points(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="currentColor" opacity="0.15"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor">{escape(text)}</text>'
