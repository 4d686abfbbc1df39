"""A chart: its legend, pointing at it, the arrow keys, a narrow window."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.daemon.page import made
from tests.daemon.page.conftest import Open
from tests.daemon.page.fake import Fake

pytestmark = pytest.mark.long


@pytest.fixture
def page(visit: Open, fake: Fake) -> Page:
    job = made.job("a", "done")
    fake.jobs["a"], fake.lives["a"] = job, made.live(job)
    fake.results["a"] = made.result()
    return visit("#/jobs/a")


def chart(page: Page, title: str) -> Locator:
    found = page.locator("section.card", has=page.get_by_role("heading", name=title, exact=True))
    expect(found.get_by_role("img")).to_be_visible()
    return found


def test_a_click_on_a_name_hides_its_line_and_another_shows_it(page: Page) -> None:
    race = chart(page, "The race")
    lines = race.locator("path[stroke='#3b82f6']")
    expect(lines).to_have_count(1)
    name = race.get_by_role("button", name="muon")
    name.click()
    expect(lines).to_have_count(0)
    expect(name).to_have_attribute("aria-pressed", "false")
    name.click()
    expect(lines).to_have_count(1)


def test_arrow_keys_read_the_points(page: Page) -> None:
    race = chart(page, "The race")
    drawing = race.get_by_role("img")
    drawing.focus()
    page.keyboard.press("ArrowRight")
    first = race.get_by_role("status").text_content() or ""
    assert re.match(r"muon: [\d.]+ after 400 steps, seed 0", first)
    page.keyboard.press("ArrowRight")
    assert race.get_by_role("status").text_content() != first
    page.keyboard.press("ArrowLeft")
    expect(race.get_by_role("status")).to_have_text(first)
    expect(race.locator(".word")).to_be_visible()
    page.keyboard.press("Escape")
    expect(race.locator(".word")).to_be_hidden()


def test_the_nearest_point_is_told_under_the_pointer(page: Page) -> None:
    trade = chart(page, "The trade-off")
    trade.locator("circle[fill='#3b82f6']").hover()
    expect(trade.locator(".word")).to_contain_text("muon:")
    box, word = trade.locator(".chart").bounding_box(), trade.locator(".word").bounding_box()
    assert box is not None
    assert word is not None
    assert box["x"] <= word["x"]
    assert word["x"] + word["width"] <= box["x"] + box["width"] + 1


def test_the_trade_off_can_be_of_memory(page: Page) -> None:
    trade = chart(page, "The trade-off")
    trade.get_by_role("combobox").select_option("memory")
    expect(trade.locator("text.title").first).to_have_text("peak memory")
    expect(trade.locator(".ticks text", has_text="MB").first).to_be_visible()


def test_a_chart_fills_a_narrow_window(page: Page) -> None:
    drawing = chart(page, "Loss curves").get_by_role("img")
    page.set_viewport_size({"width": 360, "height": 700})
    expect(drawing).to_have_attribute("viewBox", re.compile(r"^0 0 3\d\d 340$"))
    texts = drawing.locator(".ticks text").evaluate_all(
        "nodes => nodes.map(n => n.getBoundingClientRect()).map(b => [b.left, b.right])"
    )
    assert all(left >= 0 and right <= 360 for left, right in texts)
