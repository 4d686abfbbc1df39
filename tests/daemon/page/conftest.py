"""A real Chromium, which may say nothing on its console, and a server of chosen answers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.daemon.page.fake import Fake

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

Open = Callable[..., Page]


# Of the package: while Playwright runs, its thread has an event loop, which tests of other rooms cannot stand.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        # A sandbox needs a user of its own, which a container's root is not.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield running
        running.close()


@pytest.fixture(scope="package")
def modules(browser: Browser) -> Iterator[Page]:
    """A page for those who only call the functions of its modules; it is opened once."""
    server = Fake()
    server.start()
    page = browser.new_page()
    page.goto(f"{server.address}/#/devices")
    yield page
    page.close()
    server.stop()


@pytest.fixture
def fake() -> Iterator[Fake]:
    made = Fake()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def complaints() -> list[str]:
    """Errors on a page's console, what its policy forbade and what it did not catch; a test may take some out."""
    return []


@pytest.fixture
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """A browser that has seen nothing yet; `@pytest.mark.parametrize("context", [{...}], indirect=True)` sets options."""
    options = {"viewport": {"width": 1180, "height": 900}, **getattr(request, "param", {})}
    made = browser.new_context(**options)
    made.set_default_timeout(8000)
    yield made
    made.close()


@pytest.fixture
def watched(context: BrowserContext, complaints: list[str]) -> Iterator[Callable[[], Page]]:
    """Makes pages whose complaints fail the test."""

    def make() -> Page:
        page = context.new_page()
        page.on(
            "console",
            lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield make
    assert complaints == []


@pytest.fixture
def visit(watched: Callable[[], Page], fake: Fake) -> Open:
    """Opens an address of the fake server, such as "#/jobs"."""

    def go(place: str = "") -> Page:
        page = watched()
        page.goto(f"{fake.address}/{place}")
        return page

    return go
