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


CLUSTER = {
    "uuid": "cluster:H100",
    "name": "cluster at 10.0.0.1:6379 (H100)",
    "kind": "cluster",
    "address": "10.0.0.1:6379",
    "total": 4,
    "used": 3,
    "free": 0,
    "leased_by": f"job {ID}",
    "others": ["1 place taken by others"],
    "machines": [
        {"address": "10.0.0.2", "cpus": 8, "gpus": 2, "total": 2, "used": 2, "free": 0},
        {"address": "10.0.0.3", "cpus": 8, "gpus": 2, "total": 2, "used": 1, "free": 0},
    ],
    "trouble": "",
}


def test_a_cluster_tells_its_places_its_machines_and_its_jobs(visit: Open, fake: Fake) -> None:
    fake.jobs[ID] = made.job(
        ID, "running", submission={"name": "mine"}, devices=["cluster:H100"], places=3, reason=""
    )
    fake.devices = [CLUSTER, CPU]
    page = visit("#/devices")
    card = page.locator("section.card").first
    expect(card).to_contain_text("3 of 4 places in use, 0 free")
    expect(card).to_contain_text("Used by mine.")
    expect(card).to_contain_text("1 place taken by others")
    expect(card.locator("tbody tr")).to_have_count(2)
    expect(card.locator("tbody tr").first).to_contain_text("10.0.0.2")
    card.get_by_role("link").click()
    expect(page.locator("main")).to_contain_text("cluster:H100, 3 places")


def test_a_cluster_that_is_gone_says_so(visit: Open, fake: Fake) -> None:
    gone = {"total": 0, "used": 0, "free": 0, "leased_by": None, "others": [], "machines": []}
    why = "There is no Ray cluster at 10.0.0.1:6379."
    fake.devices = [{**CLUSTER, **gone, "trouble": why}]
    card = visit("#/devices").locator("section.card").first
    expect(card.get_by_role("status")).to_have_text(
        f"Not there: {why} Jobs wait for it, and go on when it is there."
    )


def test_a_machine_without_devices_says_so(visit: Open) -> None:
    expect(visit("#/devices").get_by_text("The daemon knows no devices.")).to_be_visible()


def test_an_error_is_told(visit: Open, fake: Fake, complaints: list[str]) -> None:
    fake.fails["/v1/devices"] = (500, {"title": "x", "detail": "The driver does not answer."})
    page = visit("#/devices")
    expect(page.get_by_role("alert")).to_contain_text("The driver does not answer.")
    complaints.clear()
