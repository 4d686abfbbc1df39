"""The devices, and who uses them."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.daemon.page import made
from tests.daemon.page.conftest import Open
from tests.daemon.page.fake import Fake

pytestmark = pytest.mark.long

ID = "c9x1abcdefgh"
GPU = {
    "uuid": "GPU-1",
    "name": "NVIDIA H100",
    "kind": "cuda",
    "total": 80e9,
    "free": 60e9,
    "leased_by": ID,
    "others": [],
}
CPU = {
    "uuid": "cpu",
    "name": "cpu",
    "kind": "cpu",
    "total": 4,
    "free": 1,
    "leased_by": f"{ID}, autoopt profile (pid 7)",
    "others": [],
}


def test_a_device_tells_its_memory_and_leads_to_its_job(visit: Open, fake: Fake) -> None:
    fake.jobs[ID] = made.job(ID, "running", submission={"name": "mine"})
    fake.devices = [GPU, {**GPU, "uuid": "GPU-2", "leased_by": None, "others": ["pid 7 of alice"]}, CPU]
    page = visit("#/devices")
    first, second, third = (page.locator("section.card").nth(i) for i in range(3))
    expect(first).to_contain_text("20 GB of 80 GB in use")
    expect(second).to_contain_text("Free.")
    expect(second).to_contain_text("pid 7 of alice")
    expect(third).to_contain_text("3 of 4 cores in use")
    expect(third).to_contain_text("Leased by mine, autoopt profile (pid 7).")
    first.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("mine")


def test_a_machine_without_devices_says_so(visit: Open) -> None:
    expect(visit("#/devices").get_by_text("The daemon knows no devices.")).to_be_visible()


def test_an_error_is_told(visit: Open, fake: Fake, complaints: list[str]) -> None:
    fake.fails["/v1/devices"] = (500, {"title": "x", "detail": "The driver does not answer."})
    page = visit("#/devices")
    expect(page.get_by_role("alert")).to_contain_text("The driver does not answer.")
    complaints.clear()
