"""Dark and light: as the system, unless the reader chose, which is remembered."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.daemon.page.conftest import Open

pytestmark = pytest.mark.long

LIGHT, DARK = "rgb(248, 250, 252)", "rgb(11, 17, 32)"


def back(page: Page) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("context", [{"color_scheme": "dark"}], indirect=True)
def test_it_follows_the_system_until_the_reader_chooses(visit: Open, context: BrowserContext) -> None:
    page = visit()
    assert back(page) == DARK
    page.emulate_media(color_scheme="light")
    assert back(page) == LIGHT
    page.get_by_label("Theme").select_option("dark")
    assert back(page) == DARK
    again = visit()
    assert back(again) == DARK
    assert again.get_by_label("Theme").input_value() == "dark"
    again.get_by_label("Theme").select_option("auto")
    again.emulate_media(color_scheme="light")
    again.reload()
    assert back(again) == LIGHT
