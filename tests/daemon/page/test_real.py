"""The page on the real daemon: its sockets, its guard, its queue; what a browser does there from login to result."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.daemon.page import made
from tests.trials.cluster.machines import Machines

pytestmark = pytest.mark.long(seconds=15)

ROOT = Path(__file__).parents[3]
SLOW = 120_000
"""Milliseconds that Ray may take."""
EXAMPLE = ROOT / "examples" / "digits_mlp"


@dataclass
class Daemon:
    """A daemon in a process of its own, which can be ended and started anew on its home and port."""

    home: Path
    port: int
    url: str = ""
    link: str = ""
    _process: subprocess.Popen[str] | None = None
    _environment: dict[str, str] = field(default_factory=dict)

    def start(self, seconds: float = 3.0) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.daemon.page.serve",
            str(self.home),
            str(self.port),
            str(seconds),
        ]
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
        )
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline())
        self.url, self.link = said["url"], said["link"]

    def end(self, *, kill: bool = False) -> None:
        if self._process is None:
            return
        (self._process.kill if kill else self._process.terminate)()
        self._process.communicate(timeout=20)
        self._process = None


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made_here = Daemon(tmp_path / "home", port)
    yield made_here
    made_here.end()


@pytest.fixture
def login(watched: Callable[[], Page], daemon: Daemon) -> Callable[[], Page]:
    def go() -> Page:
        page = watched()
        page.goto(daemon.link)
        expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
        return page

    return go


def submit(page: Page, files: list[Path], name: str = "", **more: str) -> None:
    page.get_by_role("link", name="Submit", exact=True).click()
    page.get_by_label("Files").set_input_files(files)
    page.get_by_label("Name", exact=True).fill(name)
    if "Workers" in more:
        page.get_by_text("More options").click()
    for label, text in more.items():
        page.get_by_label(label, exact=True).fill(text)
    page.get_by_role("button", name="Submit").click()


def files() -> list[Path]:
    return sorted(EXAMPLE.glob("*.py"))


def test_from_the_login_over_the_form_and_the_live_view_to_the_result(
    daemon: Daemon, login: Callable[[], Page]
) -> None:
    daemon.start()
    page = login()
    expect(page.get_by_text("No jobs yet.")).to_be_visible()
    submit(page, files(), "digits", Budget="60s", Priority="3")
    expect(page.get_by_role("heading", level=1)).to_have_text("digits")
    expect(page.locator(".badge")).to_have_text("running", timeout=15000)
    expect(page.locator("tr.running")).to_have_count(1)
    expect(page.get_by_role("img").first).to_be_visible()
    expect(page.locator(".badge")).to_have_text("done", timeout=20000)
    expect(page.locator("tr.recommended")).to_contain_text("muon")
    expect(page.get_by_role("heading", name="Trials (18)")).to_be_visible()
    page.locator("summary", has_text="train.py").click()
    expect(page.get_by_role("region", name="train.py")).to_have_text(made.files("x")["x", "train.py"])
    with page.expect_download() as got:
        page.locator("details", has=page.locator("summary", has_text="recommendation.yaml")).locator(
            "summary"
        ).click()
        page.get_by_role("link", name="Download", exact=True).last.click()
    assert got.value.suggested_filename == "recommendation.yaml"
    page.locator("summary", has_text="Log").click()
    expect(page.get_by_role("region", name="log")).to_contain_text("trial_finished")
    page.get_by_role("link", name="Devices").click()
    expect(page.get_by_role("heading", name="CPU")).to_be_visible()


@pytest.mark.xdist_group("ray")
def test_a_real_cluster_is_shown_while_it_is_there_and_when_it_is_gone(
    daemon: Daemon, login: Callable[[], Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    machines = Machines()
    try:
        monkeypatch.setenv("TEST_CLUSTER", machines.address)
        machines.add(num_cpus=3)
        daemon.start(60.0)
        page = login()
        page.get_by_role("link", name="Devices").click()
        card = page.locator("section.card").first
        expect(card).to_contain_text("0 of 3 places in use, 3 free", timeout=SLOW)
        submit(page, files(), "there", Workers="2")
        expect(page.locator("main")).to_contain_text("2 places", timeout=SLOW)
        page.get_by_role("link", name="Devices").click()
        expect(card).to_contain_text("2 of 3 places in use, 1 free", timeout=SLOW)
        expect(card).to_contain_text("Used by there.")
        machines.kill_head()
        expect(card).to_contain_text("Not there: ", timeout=SLOW)
    finally:
        machines.close()


@pytest.mark.parametrize("kill", [False, True], ids=["ended", "killed"])
def test_a_daemon_that_comes_back_is_found_and_its_job_goes_on(
    daemon: Daemon, login: Callable[[], Page], complaints: list[str], kill: bool
) -> None:
    daemon.start(8.0)
    page = login()
    submit(page, files(), "digits")
    expect(page.locator("tr.running")).to_have_count(1, timeout=15000)
    daemon.end(kill=kill)
    expect(page.locator("#connection")).to_contain_text("The connection is lost.")
    daemon.start(2.0)
    expect(page.locator("#connection")).to_be_hidden(timeout=20000)
    expect(page.locator(".badge")).to_have_text("done", timeout=30000)
    expect(page.get_by_role("heading", name="Trials (18)")).to_be_visible()
    complaints.clear()  # refused connections


def test_a_running_job_is_cancelled_and_tried_again(daemon: Daemon, login: Callable[[], Page]) -> None:
    daemon.start(4.0)
    page = login()
    submit(page, files(), "digits")
    expect(page.locator("tr.running")).to_have_count(1, timeout=15000)
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator(".badge")).to_have_text("cancelled", timeout=15000)
    page.get_by_role("button", name="Retry").click()
    page.get_by_role("button", name="Retry the job").click()
    expect(page.locator(".badge")).to_have_text("done", timeout=20000)


def test_names_of_users_stay_text(daemon: Daemon, login: Callable[[], Page]) -> None:
    daemon.start(1.0)
    page = login()
    evil = "<img src=x onerror='window.caught=1'><script>window.caught=1</script>"
    submit(page, files(), evil)
    expect(page.get_by_role("heading", level=1)).to_have_text(evil)
    expect(page.locator(".badge")).to_have_text("done", timeout=20000)
    page.get_by_role("link", name="Jobs", exact=True).first.click()
    expect(page.locator(".title")).to_have_text(evil)
    assert page.evaluate("window.caught") is None


def test_what_the_daemon_refuses_is_told_in_the_form(
    daemon: Daemon, login: Callable[[], Page], complaints: list[str]
) -> None:
    daemon.start(1.0)
    page = login()
    page.get_by_role("link", name="Submit", exact=True).click()
    page.get_by_label("Files").set_input_files(files())
    page.get_by_label("Model", exact=True).fill("../../etc/passwd")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_be_visible()
    complaints.clear()


def test_without_a_login_nothing_is_shown(
    daemon: Daemon, watched: Callable[[], Page], complaints: list[str]
) -> None:
    daemon.start(1.0)
    page = watched()
    page.goto(daemon.url)
    expect(page.locator("#connection")).to_contain_text("not logged in")
    complaints.clear()


@pytest.mark.long(seconds=40)
def test_a_real_profile_from_the_form_to_its_recommendation(
    daemon: Daemon, login: Callable[[], Page]
) -> None:
    """Nothing is played here: a model is trained."""
    daemon.start(0)
    page = login()
    project = daemon.home.parent / "project"
    for name in ("digits_mlp/model.py", "data/digits.csv.gz"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(EXAMPLE.parent / name, project / name)
    archive = shutil.make_archive(str(project), "zip", project)
    page.get_by_role("link", name="Submit", exact=True).click()
    page.get_by_label("Files").set_input_files(archive)
    page.get_by_label("Model", exact=True).fill("digits_mlp/model.py")
    page.get_by_label("Budget").fill("25s")
    page.get_by_text("More options").click()
    page.get_by_label("Optimizers").fill("adamw, sgd")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("tbody tr").first).to_be_visible(timeout=60000)
    expect(page.locator(".badge")).to_have_text("done", timeout=90000)
    expect(page.locator("tr.recommended")).to_be_visible()
    expect(page.get_by_role("link", name="Download report.html")).to_be_visible()
