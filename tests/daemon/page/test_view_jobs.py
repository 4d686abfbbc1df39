"""The list of jobs in each of its states."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.daemon.page import made
from tests.daemon.page.conftest import Open
from tests.daemon.page.fake import Fake

pytestmark = pytest.mark.long


def test_an_empty_list_says_how_to_begin(visit: Open) -> None:
    page = visit()
    expect(page.get_by_text("No jobs yet.")).to_be_visible()
    expect(page.get_by_role("link", name="Submit a model")).to_be_visible()


def test_it_says_that_it_loads(visit: Open, fake: Fake) -> None:
    fake.delay = 1.0
    page = visit()
    expect(page.get_by_text("Loading the jobs")).to_be_visible()
    expect(page.get_by_text("No jobs yet.")).to_be_visible()
    expect(page.get_by_text("Loading the jobs")).to_have_count(0)


def test_an_error_is_told_with_its_way_out_and_can_be_tried_again(
    visit: Open, fake: Fake, complaints: list[str]
) -> None:
    fake.fails["/v1/jobs"] = (
        500,
        {"title": "x", "detail": "The queue cannot be read.", "hint": "Use `backup/queue.db`."},
    )
    page = visit()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The queue cannot be read.")
    expect(alert.locator("code")).to_have_text("backup/queue.db")
    fake.fails.clear()
    fake.jobs["a"] = made.job("a", submission={"name": "after all"})
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("link", name="after all")).to_be_visible()
    expect(alert).to_have_count(0)
    complaints.clear()  # the browser itself tells of the 500


def test_jobs_stand_in_groups_in_the_order_in_which_they_come(visit: Open, fake: Fake) -> None:
    for id, state, created, priority in (
        ("run", "running", 1, 0),
        ("late", "queued", 9, 0),
        ("early", "queued", 5, 0),
        ("urgent", "queued", 10, 50),
        ("old", "done", 2, 0),
        ("new", "failed", 3, 0),
    ):
        submission = {"name": id, "priority": priority}
        fake.jobs[id] = made.job(id, state, created=made.DAY + created, submission=submission)
    page = visit()
    expect(page.get_by_role("heading", level=2)).to_have_text(["Running (1)", "Waiting (3)", "Ended (2)"])
    expect(page.locator("li .title")).to_have_text(["run", "urgent", "early", "late", "new", "old"])


def test_progress_and_changes_of_state_come_by_themselves(visit: Open, fake: Fake) -> None:
    fake.jobs["a"] = made.job("a", submission={"name": "mine"})
    page = visit()
    row = page.locator("li", has_text="mine")
    expect(row.locator(".badge")).to_have_text("waiting")
    fake.lives["a"] = made.live(made.job("a", "running"), 0.2)
    fake.put(made.job("a", "running", submission={"name": "mine"}))
    expect(row.locator(".badge")).to_have_text("running")
    expect(row.get_by_role("progressbar")).to_be_visible()
    fake.tell(
        "live",
        "a",
        {"progress": {"share": 0.5, "seconds_left": 29.6, "phase": "race 2"}, "trial": None, "round": None},
    )
    # What is not known yet is asked for, and that answer is the recorded one.
    expect(row.locator(".left")).to_contain_text("left")
    assert 0 < row.get_by_role("progressbar").evaluate("bar => bar.value") < 1
    fake.put(made.job("a", "done", submission={"name": "mine"}))
    expect(row.locator(".badge")).to_have_text("done")
    expect(page.get_by_role("heading", level=2)).to_have_text("Ended (1)")
    # For those who do not see it.
    expect(page.locator("#news")).to_have_text("mine is done.")


def test_a_row_that_changes_keeps_the_focus(visit: Open, fake: Fake) -> None:
    fake.jobs["a"] = made.job("a", submission={"name": "mine"})
    page = visit()
    link = page.get_by_role("link", name="mine")
    link.focus()
    fake.put(made.job("b", submission={"name": "another", "priority": 3}))
    fake.put(made.job("a", reason="Waits for a device.", submission={"name": "mine"}))
    expect(page.get_by_text("Waits for a device.")).to_be_visible()
    expect(link).to_be_focused()


def test_an_older_answer_does_not_undo_a_newer_one(visit: Open, fake: Fake) -> None:
    fake.put(made.job("a", submission={"name": "mine"}))
    page = visit()
    badge = page.locator("li .badge")
    expect(badge).to_have_text("waiting")
    fake.put(made.job("a", "running", submission={"name": "mine"}))
    expect(badge).to_have_text("running")
    fake.tell("job", "a", made.job("a", "queued", submission={"name": "mine"}))
    fake.put(made.job("b", submission={"name": "later"}))
    expect(page.get_by_role("link", name="later")).to_be_visible()
    expect(page.locator("li", has_text="mine").locator(".badge")).to_have_text("running")
