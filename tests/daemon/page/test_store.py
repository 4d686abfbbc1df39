"""The connection: lost, found again, refused; nothing that happened meanwhile is missed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.daemon.page import made
from tests.daemon.page.conftest import Open
from tests.daemon.page.fake import Fake

pytestmark = pytest.mark.long


def until(true: Callable[[], bool], seconds: float = 8.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def test_a_stream_that_breaks_off_goes_on_after_the_last_id_that_came(visit: Open, fake: Fake) -> None:
    fake.put(made.job("a", submission={"name": "mine"}))
    page = visit()
    until(lambda: fake.streams == 1)
    fake.put(made.job("a", "running", submission={"name": "mine"}))
    expect(page.locator("li .badge")).to_have_text("running")
    fake.drop()
    until(lambda: fake.streams == 1)
    asked = [
        headers.get("Last-Event-ID") for _, path, headers, _ in fake.asked if path.startswith("/v1/events")
    ]
    assert asked == [None, "2"]
    fake.put(made.job("a", "done", submission={"name": "mine"}))
    expect(page.locator("li .badge")).to_have_text("done")
    expect(page.locator("#connection")).to_be_hidden()


def test_a_daemon_that_is_gone_is_told_and_found_again(
    visit: Open, fake: Fake, complaints: list[str]
) -> None:
    fake.put(made.job("a", submission={"name": "mine"}))
    page = visit()
    until(lambda: fake.streams == 1)
    expect(page.get_by_role("link", name="mine")).to_be_visible()
    fake.stop()
    banner = page.locator("#connection")
    expect(banner).to_contain_text("The connection is lost.")
    expect(page.get_by_role("link", name="mine")).to_be_visible()
    fake.jobs["a"] = made.job("a", "done", version=9, submission={"name": "mine"})
    fake.jobs["b"] = made.job("b", submission={"name": "new"})
    fake.start()
    expect(banner).to_be_hidden()
    expect(page.locator("li", has_text="mine").locator(".badge")).to_have_text("done")
    expect(page.get_by_role("link", name="new")).to_be_visible()
    complaints.clear()  # the browser tells of refused connections


def test_a_lost_job_page_catches_up(visit: Open, fake: Fake, complaints: list[str]) -> None:
    job = made.job("a", "running")
    fake.put(job)
    fake.lives["a"] = made.live(job, 0.3)
    page = visit("#/jobs/a")
    expect(page.get_by_role("heading", name="Trials (6)")).to_be_visible()
    fake.stop()
    expect(page.locator("#connection")).to_be_visible()
    fake.lives["a"] = made.live(job, 0.6)
    fake.start()
    count = len(fake.lives["a"]["trials"])
    expect(page.get_by_role("heading", name=f"Trials ({count})")).to_be_visible()
    complaints.clear()


def test_without_a_stream_the_page_asks_by_itself(visit: Open, fake: Fake, complaints: list[str]) -> None:
    fake.fails["/v1/events"] = (503, {"title": "Too many streams"})
    fake.put(made.job("a", submission={"name": "mine"}))
    page = visit()
    expect(page.locator("#connection")).to_contain_text("No live updates at the moment")
    expect(page.get_by_role("link", name="mine")).to_be_visible()
    fake.fails.clear()
    expect(page.locator("#connection")).to_be_hidden()
    complaints.clear()


def test_a_reset_asks_for_everything_anew(visit: Open, fake: Fake) -> None:
    fake.put(made.job("a", submission={"name": "mine"}))
    page = visit()
    expect(page.get_by_role("link", name="mine")).to_be_visible()
    until(lambda: fake.streams == 1)
    fake.jobs = {"b": made.job("b", submission={"name": "only"})}
    fake.tell("reset", "", None)
    expect(page.locator("li .title")).to_have_text(["only"])


def test_without_a_login_the_page_says_where_to_get_one(
    visit: Open, fake: Fake, complaints: list[str]
) -> None:
    refused = (401, {"title": "Not logged in", "detail": "Not logged in."})
    fake.fails = {"/v1/jobs": refused, "/v1/events": refused}
    page = visit()
    expect(page.locator("#connection")).to_contain_text("not logged in")
    expect(page.locator("#connection code")).to_have_text("autoopt serve --link")
    complaints.clear()


def test_a_page_that_nobody_looks_at_lets_its_stream_go_and_catches_up_later(visit: Open, fake: Fake) -> None:
    fake.put(made.job("a", submission={"name": "mine"}))
    page = visit()
    until(lambda: fake.streams == 1)
    expect(page.get_by_role("link", name="mine")).to_be_visible()
    page.clock.install()
    look = """(state) => {
      Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(look, "hidden")
    page.clock.fast_forward("02:00")
    fake.put(made.job("a", "running", submission={"name": "mine"}))
    page.clock.resume()
    badge = page.locator("li .badge")
    page.wait_for_timeout(150)
    expect(badge).to_have_text("waiting")
    expect(page.locator("#connection")).to_be_hidden()
    page.evaluate(look, "visible")
    expect(badge).to_have_text("running")
