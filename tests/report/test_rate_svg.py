"""The picture of loss against rate: it can be parsed, lies inside its frame, and shows what was chosen."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from autoopt.records import RatePoint, Recommendation
from autoopt.report import rate_svg
from tests.report import factory

NAMESPACE = "{http://www.w3.org/2000/svg}"


def drawn(rec: Recommendation) -> ElementTree.Element:
    return ElementTree.fromstring(rate_svg.draw(rec).replace("<svg ", f'<svg xmlns="{NAMESPACE[1:-1]}" ', 1))


def numbers(svg: ElementTree.Element) -> list[tuple[float, float]]:
    found = []
    for shape in svg.iter():
        for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", shape.get("points", "")):
            found.append((float(x), float(y)))
        for x, y in (("cx", "cy"), ("x1", "y1"), ("x2", "y2")):
            if shape.get(x) is not None:
                found.append((float(shape.get(x, "")), float(shape.get(y, ""))))
    return found


def steep() -> Recommendation:
    """Believed losses over three decades: a logarithmic axis, and a line that leaves it."""
    rec = factory.recommendation()
    curve = rec.rates[0]
    points = [
        RatePoint(rate=p.rate, mean=10.0**i, low=10.0**i / 2, high=1e9)
        for i, p in enumerate(curve.points, -3)
    ]
    return factory.recommendation(rates=[curve.model_copy(update={"points": points})])


@pytest.mark.parametrize("rec", [factory.recommendation(), factory.keep(), steep()])
def test_everything_lies_inside_the_frame(rec: Recommendation) -> None:
    points = numbers(drawn(rec))
    assert len(points) > 30
    assert all(0 <= x <= 640 and 0 <= y <= 270 for x, y in points)


def test_there_is_a_line_a_curve_and_a_dot_an_optimizer_of_that_length() -> None:
    rec = factory.recommendation()
    svg = drawn(rec)
    assert len(svg.findall(f"{NAMESPACE}polyline")) == len(rec.rates)
    told = [dot.findtext(f"{NAMESPACE}title") or "" for dot in svg.findall(f"{NAMESPACE}circle")]
    assert [text.split(":")[0] for text in told] == ["adamw", "muon", "adan", "sgd", "adahessian", "yours"]
    assert [name for name, _ in rate_svg.legend(rec)] == [text.split(":")[0] for text in told]


def test_nothing_is_drawn_of_nothing() -> None:
    assert rate_svg.draw(factory.recommendation(rates=[])) == ""
