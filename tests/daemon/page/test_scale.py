"""Values to pixels and ticks."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.long

SCALE = """async ([kind, domain, count]) => {
  const scale = (await import("/static/scale.js"))[kind](domain, [0, 100]);
  const ticks = scale.ticks(count);
  return { ticks, at: ticks.map(scale.at) };
}"""


@pytest.mark.parametrize(
    ("kind", "domain", "ticks"),
    [
        ("linear", [0, 10], [0, 2, 4, 6, 8, 10]),
        ("linear", [2.21, 2.93], [2.4, 2.6, 2.8]),
        ("linear", [-1e-4, 1e-4], [-1e-4, -5e-5, 0, 5e-5, 1e-4]),
        ("linear", [3, 3], [2, 3, 4]),
        ("logarithmic", [1e-4, 1e-1], [1e-4, 1e-3, 1e-2, 1e-1]),
        ("logarithmic", [1e-8, 1e4], [1e-8, 1e-5, 1e-2, 1e1, 1e4]),
        ("logarithmic", [0.04, 0.6], [0.05, 0.1, 0.2, 0.5]),
        ("logarithmic", [2.2, 2.9], [2.2, 2.4, 2.6, 2.8]),
        ("categories", ["a", "b", "c", "d"], ["a", "b", "c", "d"]),
    ],
)
def test_ticks_are_round_and_inside(
    modules: Page, kind: str, domain: list[float], ticks: list[float]
) -> None:
    found = modules.evaluate(SCALE, [kind, domain, 5])
    if kind == "categories":
        assert found["ticks"] == ticks
    else:
        assert found["ticks"] == pytest.approx(ticks, rel=1e-9, abs=1e-15)
    assert all(-1e-6 <= at <= 100 + 1e-6 for at in found["at"])
    assert found["at"] == sorted(found["at"])
