"""What users and their programs wrote is text, wherever it turns up: no element, no script, no picture of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.daemon.page import made
from tests.daemon.page.conftest import Open
from tests.daemon.page.fake import Fake

pytestmark = pytest.mark.long

EVIL = '<img src=x onerror="window.caught=1"><script>window.caught=1</script>\'"&`</textarea>\u202e'
SPARED = {"state", "id", "outcome", "status", "label", "source", "of", "schema", "kind", "verdict"}
"""Words of ours."""


def poisoned(value: Any) -> Any:
    """Every text that somebody else may have written, with the attack behind it."""
    if isinstance(value, dict):
        return {
            poisoned(k) if k in ("muon", "sgd") else k: v if k in SPARED else poisoned(v)
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    return value + EVIL if isinstance(value, str) else value


def job(state: str) -> Any:
    changes = {
        "reason": "why",
        "changed": ["model.py"],
        "error": {"kind": "x", "message": "m", "hint": "h"} if state == "failed" else None,
    }
    submission = {"target": "model.py", "name": "n", "arguments": ["a"]}
    return poisoned(made.job("c9x1abcdefgh", state, submission=submission, **changes))


def unharmed(page: Page) -> None:
    page.wait_for_timeout(300)
    assert page.evaluate("window.caught") is None
    assert (
        page.locator("img:not([role]), main script, iframe, object").count()
        == page.locator("svg[role=img]").count() * 0
    )


@pytest.mark.parametrize("state", ["running", "failed", "done"])
def test_a_script_in_every_name_stays_text(visit: Open, fake: Fake, state: str) -> None:
    one = job(state)
    fake.jobs[one["id"]] = one
    fake.lives[one["id"]] = poisoned(made.live(one)) | {"job": one, "notes": [EVIL]}
    fake.results[one["id"]] = poisoned(made.result())
    fake.files = {(one["id"], name): EVIL for name in ("train.py", "recommendation.yaml")}
    fake.logs[one["id"]] = EVIL
    fake.devices = [
        poisoned(
            {
                "uuid": "GPU",
                "name": "n",
                "kind": "k",
                "total": 2,
                "free": 1,
                "leased_by": "j",
                "others": ["o"],
            }
        )
    ]
    page = visit()
    expect(page.locator(".title")).to_contain_text("<script>")
    unharmed(page)
    page.locator(".title").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("<img")
    page.locator("summary", has_text="Log").click()
    expect(page.get_by_role("region", name="log")).to_have_text(EVIL.strip())
    if state == "done":
        page.locator("summary", has_text="train.py").click()
        expect(page.get_by_role("region", name="train.py")).to_contain_text("<script>")
    expect(page.get_by_role("table", name="trials")).to_contain_text("<script>")
    page.get_by_role("img").first.focus()
    page.keyboard.press("ArrowRight")
    unharmed(page)
    page.get_by_role("link", name="Devices").click()
    expect(page.locator("section.card")).to_contain_text("<script>")
    unharmed(page)


def test_a_problem_of_the_daemon_is_text_too(visit: Open, fake: Fake, complaints: list[str]) -> None:
    fake.fails["/v1/jobs"] = (500, {"title": EVIL, "detail": EVIL, "hint": EVIL})
    page = visit()
    expect(page.get_by_role("alert")).to_contain_text("<script>")
    unharmed(page)
    complaints.clear()


def test_an_address_is_not_believed(visit: Open, fake: Fake, complaints: list[str]) -> None:
    for place in (
        f"#/jobs/{EVIL}",
        "#/jobs/..%2f..%2fmetrics",
        "#/jobs/%zz",
        "#/nowhere",
        "#/__proto__",
        "#/constructor",
    ):
        page = visit(place)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        unharmed(page)
        page.close()
    assert {path for _, path, _, _ in fake.asked if "metrics" in path} <= {"/v1/jobs/..%2F..%2Fmetrics"}
    complaints.clear()


def test_events_that_make_no_sense_do_no_harm(visit: Open, fake: Fake) -> None:
    fake.put(made.job("a", submission={"name": "mine"}))
    page = visit()
    expect(page.get_by_role("link", name="mine")).to_be_visible()
    for data in ({}, {"trial": {"trial": 1}}, {"progress": {"share": "x"}}, {"trials": []}):
        fake.tell("live", "a", json.loads(json.dumps(data)))
    fake.put(made.job("b", submission={"name": "later"}))
    expect(page.get_by_role("link", name="later")).to_be_visible()
