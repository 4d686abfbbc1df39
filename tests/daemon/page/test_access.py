"""Usable by keyboard, by a screen reader, on a phone, in both themes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.daemon.page import made
from tests.daemon.page.conftest import Open
from tests.daemon.page.fake import Fake

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
PLACES = ("#/jobs", "#/jobs/run", "#/jobs/done", "#/jobs/failed", "#/submit", "#/devices")
BOTH = [{"color_scheme": "light"}, {"color_scheme": "dark"}]

LONG = (
    "a_very_long_package_name.with_many_parts.and_a_module_of_models:build_the_model_that_has_no_short_name"
)

CONTRAST = (HERE / "contrast.js").read_text(encoding="utf-8")

FLAWS = (HERE / "flaws.js").read_text(encoding="utf-8")


FOCUSED = """(ours) => {
  const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
  const at = [...document.querySelectorAll(ours)].indexOf(document.activeElement);
  return [at, outlineStyle !== "none" && parseFloat(outlineWidth) > 0];
}"""


@pytest.fixture
def full(fake: Fake) -> Fake:
    for name, state, share in (
        ("run", "running", 10 / 45),
        ("done", "done", 1.0),
        ("failed", "failed", None),
        ("wait", "queued", None),
    ):
        error = (
            {"kind": "x", "message": "model.py, line 3: boom", "hint": "Run `autoopt check model.py`."}
            if state == "failed"
            else None
        )
        fake.jobs[name] = made.job(
            name, state, error=error, changed=["model.py was edited"], submission={"target": LONG}
        )
        if share is not None:
            fake.lives[name] = made.live(fake.jobs[name], share)
    fake.results["done"] = made.result()
    fake.files = made.files("done")
    fake.devices = [
        {
            "uuid": "GPU-1",
            "name": "NVIDIA H100",
            "kind": "cuda",
            "total": 80e9,
            "free": 60e9,
            "leased_by": None,
            "others": [],
        }
    ]
    return fake


def settled(page: Page, place: str) -> None:
    page.evaluate("place => { location.hash = place; }", place)
    expect(page.get_by_text("Loading the").filter(visible=True)).to_have_count(0)
    if place == "#/jobs/done":
        expect(page.locator("tr.recommended")).to_be_visible()
    if place == "#/submit":
        page.get_by_text("More options").click()


@pytest.mark.parametrize("context", BOTH, indirect=True, ids=["light", "dark"])
def test_every_text_can_be_read_and_everything_has_a_name(visit: Open, full: Fake) -> None:
    page = visit()
    for place in PLACES:
        settled(page, place)
        assert page.evaluate(FLAWS) == [], place
        assert page.evaluate(CONTRAST) == [], place


@pytest.mark.parametrize(
    "context", [{"viewport": {"width": 360, "height": 740}, "has_touch": True}], indirect=True
)
def test_nothing_is_wider_than_a_phone(visit: Open, full: Fake) -> None:
    page = visit()
    for place in PLACES:
        settled(page, place)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, place


def test_the_keyboard_reaches_everything_in_order_and_one_sees_where_it_is(visit: Open, full: Fake) -> None:
    page = visit("#/jobs/done")
    settled(page, "#/jobs/done")
    page.evaluate("document.activeElement.blur()")
    ours = "a[href], button, input, select, textarea, summary, [tabindex='0']"
    reachable = page.locator(ours).evaluate_all("nodes => nodes.filter((n) => n.checkVisibility()).length")
    seen: list[int] = []
    for _ in range(reachable):
        page.keyboard.press("Tab")
        at, shown = page.evaluate(FOCUSED, ours)
        assert shown, f"no focus to be seen at element {at}"
        seen.append(at)
    assert seen == sorted(set(seen))
    assert len(seen) == reachable


def test_a_job_is_submitted_watched_and_cancelled_without_a_mouse(visit: Open, full: Fake) -> None:
    page = visit()
    expect(page.get_by_role("link", name=LONG).first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Submit a model")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page.get_by_role("heading", level=1)).to_have_text("Submit a model")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Files")).to_be_focused()
    page.goto(page.url.replace("#/submit", "#/jobs/run"))
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    full.on_post = lambda path, body: made.job("run", "cancelling", version=2)
    page.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    # The harmless answer comes first.
    expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".badge")).to_have_text("being cancelled")


def test_changes_are_said_aloud_once(visit: Open, full: Fake) -> None:
    page = visit()
    expect(page.get_by_role("link", name=LONG).first).to_be_visible()
    news = page.locator("#news")
    assert news.get_attribute("role") == "status"
    expect(news).to_have_text("")
    full.put(made.job("wait", "running", submission={"name": "mine"}))
    expect(news).to_have_text("mine is running.")
    expect(page.locator("li", has_text="mine").get_by_role("progressbar")).to_have_attribute(
        "aria-label", re.compile(".")
    )
