"""A job's page, from waiting to its recommendation, and what can be done to it."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from tests.daemon.page import made
from tests.daemon.page.conftest import Open
from tests.daemon.page.fake import Fake, Json

pytestmark = pytest.mark.long

ID = "c9x1abcdefgh"


def put(fake: Fake, state: str, share: float | None = None, **changes: Json) -> Json:
    job = made.job(ID, state, **changes)
    if share is not None:
        fake.lives[ID] = made.live(job, share)
    if state == "done":
        fake.results[ID] = made.result()
        fake.files |= made.files(ID)
    fake.put(job)
    return job


def count_of_live(fake: Fake) -> int:
    """How often the live view was asked for, once that has been the same for longer than the page's pause."""
    count, since = -1, time.monotonic()
    while time.monotonic() < since + 1.5:
        now = sum(path.endswith("/live") for _, path, _, _ in fake.asked)
        if now != count:
            count, since = now, time.monotonic()
        time.sleep(0.05)
    return count


def test_what_is_measured_appears_while_one_looks_on(visit: Open, fake: Fake) -> None:
    job = put(fake, "running", 10 / 45)
    page = visit(f"#/jobs/{ID}")
    expect(page.get_by_role("heading", name="Trials (4)")).to_be_visible()
    row = page.locator("tr.running")
    expect(row).to_have_count(1)
    before, after = made.live(job, 10 / 45)["trials"], made.live(job, 11 / 45)["trials"]
    running = {**before[-1], "step": 120, "curve": [[1, 4.6], [60, 3.2], [120, 3.0]]}
    progress = {"share": 0.4, "seconds_left": 36.0, "phase": "race 1"}
    # The page's own first questions are answered; an answer of before an event must not come after it.
    asked = count_of_live(fake)
    fake.tell("live", ID, {"progress": progress, "trial": running, "round": None})
    expect(row).to_contain_text("120 / ")
    expect(page.get_by_text("race 1, about 36 s left")).to_be_visible()
    fake.tell("live", ID, {"progress": progress, "trial": after[len(before) - 1], "round": None})
    expect(row).to_have_count(0)
    fake.tell(
        "live",
        ID,
        {
            "progress": progress,
            "trial": None,
            "round": {
                "stage": "race 1",
                "kept": ["muon"],
                "dropped": {"sgd": "2 % chance of being the best"},
                "seconds": 30.0,
            },
        },
    )
    expect(page.get_by_text("sgd (2 % chance of being the best)")).to_be_visible()
    # Not one of these was asked for again.
    assert count_of_live(fake) == asked


def test_an_event_that_tells_nothing_is_followed_by_a_question(visit: Open, fake: Fake) -> None:
    job = put(fake, "running", 0.2)
    page = visit(f"#/jobs/{ID}")
    expect(page.get_by_role("heading", name="Trials (3)")).to_be_visible()
    fake.lives[ID] = made.live(job, 0.6)
    fake.tell("live", ID, {"progress": fake.lives[ID]["progress"]})
    expect(page.get_by_role("heading", name=f"Trials ({len(fake.lives[ID]['trials'])})")).to_be_visible()


def test_the_users_own_optimizer_is_known_once_the_workload_is(visit: Open, fake: Fake) -> None:
    job = put(fake, "running", 1 / 45)
    page = visit(f"#/jobs/{ID}")
    expect(page.get_by_text("No trials yet.")).to_be_visible()
    count_of_live(fake)
    fake.lives[ID] = made.live(job, 10 / 45)
    for trial in fake.lives[ID]["trials"]:
        fake.tell("live", ID, {"progress": fake.lives[ID]["progress"], "trial": trial, "round": None})
    # Its learning rate is that of the workload's baseline: no trial tells it.
    rates = page.locator("section.card", has=page.get_by_role("heading", name="Loss against learning rate"))
    expect(rates.get_by_role("button", name="yours")).to_be_visible()


def test_the_recommendation_comes_with_the_end(visit: Open, fake: Fake) -> None:
    put(fake, "running", 0.9)
    page = visit(f"#/jobs/{ID}")
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    expect(page.get_by_role("region", name="recommendation")).to_be_hidden()
    put(fake, "done", 1.0)
    result = made.result()
    found = page.get_by_role("region", name="recommendation")
    expect(found.get_by_role("heading", level=2).first).to_have_text(re.compile("^Against yours: loss"))
    expect(found).to_contain_text(result["reason"])
    for reason in result["confidence"]["reasons"]:
        expect(found).to_contain_text(reason)
    expect(found.locator("tr.recommended")).to_contain_text("muon")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    for title in (
        "Loss against learning rate",
        "Loss curves",
        "The race",
        "Chances over the rounds",
        "The trade-off",
    ):
        expect(page.get_by_role("img", name=re.compile(f"^{title}:"))).to_be_visible()


def test_the_files_can_be_read_copied_and_downloaded(visit: Open, fake: Fake, complaints: list[str]) -> None:
    put(fake, "done", 1.0)
    page = visit(f"#/jobs/{ID}")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for name in ("train.py", "recommendation.yaml"):
        page.locator("summary", has_text=name).click()
        text = made.files(ID)[ID, name]
        box = page.locator("details", has=page.locator("summary", has_text=name))
        expect(box.get_by_role("region", name=name)).to_have_text(text)
        box.get_by_role("button", name="Copy").click()
        expect(box.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == text
        with page.expect_download() as got:
            box.get_by_role("link", name="Download").click()
        assert got.value.suggested_filename == name
        assert got.value.path().read_text(encoding="utf-8") == text


def test_without_a_clipboard_the_text_is_selected(visit: Open, fake: Fake) -> None:
    put(fake, "done", 1.0)
    page = visit(f"#/jobs/{ID}")
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    page.locator("summary", has_text="train.py").click()
    box = page.locator("details", has=page.locator("summary", has_text="train.py"))
    box.get_by_role("button", name="Copy").click()
    expect(box.get_by_role("button", name="Selected")).to_be_visible()
    assert page.evaluate("getSelection().toString().trim()") == made.files(ID)[ID, "train.py"].strip()


def test_a_run_that_was_stopped_early_says_so(visit: Open, fake: Fake) -> None:
    put(fake, "done", 1.0, complete=False)
    fake.results[ID]["complete"] = False
    page = visit(f"#/jobs/{ID}")
    expect(page.locator(".badge")).to_have_text("done, stopped early")
    expect(page.get_by_text("Stopped early: this is the best so far.")).to_be_visible()


def test_a_result_that_cannot_be_read_is_told_and_asked_again(
    visit: Open, fake: Fake, complaints: list[str]
) -> None:
    put(fake, "done", 1.0)
    fake.fails[f"/v1/jobs/{ID}/result"] = (500, {"title": "x", "detail": "recommendation.yaml is damaged."})
    page = visit(f"#/jobs/{ID}")
    expect(page.get_by_role("alert")).to_contain_text("recommendation.yaml is damaged.")
    fake.fails.clear()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("tr.recommended")).to_be_visible()
    complaints.clear()


def test_a_failure_is_told_with_its_way_out(visit: Open, fake: Fake) -> None:
    error = {
        "kind": "UserCodeError",
        "message": "model.py, line 3: boom",
        "hint": "Run `autoopt check model.py`.",
        "exit_code": 3,
    }
    put(fake, "failed", error=error)
    page = visit(f"#/jobs/{ID}")
    notice = page.locator(".notice.bad")
    expect(notice).to_contain_text("model.py, line 3: boom")
    expect(notice.locator("code")).to_have_text("autoopt check model.py")
    expect(page.get_by_text("No trial was begun.")).to_be_visible()


def test_what_was_set_aside_and_what_has_changed_is_told(visit: Open, fake: Fake) -> None:
    put(fake, "set_aside", reason="Its process was killed twice.", changed=["model.py was edited"])
    page = visit(f"#/jobs/{ID}")
    expect(page.get_by_text("Its process was killed twice.")).to_be_visible()
    expect(page.get_by_text("not started again by itself")).to_be_visible()
    expect(page.get_by_text("model.py was edited")).to_be_visible()


def test_cancel_asks_first(visit: Open, fake: Fake) -> None:
    put(fake, "running", 0.2)
    asked: list[str] = []

    def answer(path: str, body: bytes) -> Json:
        asked.append(path)
        return made.job(ID, "cancelling", version=2)

    fake.on_post = answer
    page = visit(f"#/jobs/{ID}")
    cancel = page.get_by_role("button", name="Cancel", exact=True)
    cancel.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Cancel model.py?")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(cancel).to_be_focused()
    cancel.click()
    dialog.get_by_role("button", name="Keep it").click()
    expect(dialog).to_have_count(0)
    assert asked == []
    cancel.click()
    dialog.get_by_role("button", name="Cancel the job").click()
    expect(page.locator(".badge")).to_have_text("being cancelled")
    assert asked == [f"/v1/jobs/{ID}/cancel"]


def test_a_refused_cancel_says_why(visit: Open, fake: Fake, complaints: list[str]) -> None:
    put(fake, "running", 0.2)
    fake.fails[f"/v1/jobs/{ID}/cancel"] = (
        409,
        {"title": "x", "detail": "It has ended.", "hint": "See its result."},
    )
    page = visit(f"#/jobs/{ID}")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.get_by_role("alert")).to_contain_text("It has ended.")
    complaints.clear()


@pytest.mark.parametrize("state", ["failed", "cancelled", "set_aside"])
def test_what_ended_badly_can_be_tried_again(visit: Open, fake: Fake, state: str) -> None:
    put(fake, state)
    fake.on_post = lambda path, body: made.job(ID, "queued", version=7)
    page = visit(f"#/jobs/{ID}")
    page.get_by_role("button", name="Retry").click()
    page.get_by_role("button", name="Retry the job").click()
    expect(page.locator(".badge")).to_have_text("waiting")
    assert [path for method, path, _, _ in fake.asked if method == "POST"] == [f"/v1/jobs/{ID}/retry"]
    # The pressed button is gone; the reader stands at what took its place.
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()


def test_the_log_is_read_when_it_is_opened(visit: Open, fake: Fake) -> None:
    put(fake, "failed")
    fake.logs[ID] = "first line\nTraceback ...\n"
    page = visit(f"#/jobs/{ID}")
    expect(page.locator(".badge")).to_have_text("failed")
    assert not any(path.endswith("/log") for _, path, _, _ in fake.asked)
    page.locator("summary", has_text="Log").click()
    expect(page.get_by_role("region", name="log")).to_contain_text("Traceback ...")


def test_all_trials_are_shown_when_asked_for(visit: Open, fake: Fake) -> None:
    put(fake, "done", 1.0)
    page = visit(f"#/jobs/{ID}")
    rows = page.get_by_role("table", name="trials").locator("tbody tr")
    expect(rows).to_have_count(12)
    page.get_by_role("button", name="Show all 18").click()
    expect(rows).to_have_count(18)
    expect(rows.filter(has_text="diverged")).to_have_count(1)


def test_an_unknown_job_is_told(visit: Open, complaints: list[str]) -> None:
    page = visit("#/jobs/nobody")
    expect(page.get_by_role("alert")).to_contain_text("There is no such job.")
    complaints.clear()


def test_one_goes_from_the_list_to_a_job_and_back(visit: Open, fake: Fake) -> None:
    put(fake, "running", 0.3, submission={"name": "mine"})
    page = visit()
    page.get_by_role("link", name="mine").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("mine")
    expect(page).to_have_title("mine - autoopt")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    expect(page).to_have_title("Jobs - autoopt")
