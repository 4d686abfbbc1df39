"""What a notebook shows of a recommendation."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autoopt.records import Recommendation
from tests.report import factory


def test_the_answer_the_plot_the_table_and_the_code_are_there() -> None:
    html = factory.recommendation()._repr_html_()
    assert "against yours: loss 0.1522 -&gt; 0.1184" in html
    assert html.count("<svg") == 1
    assert html.count("<tr") == 1 + 7, "those that were tried, and the head"
    assert "<code>" in html
    assert "http://" not in html
    assert "https://" not in html


@pytest.mark.parametrize(
    "rec", [factory.keep(), factory.recommendation(rates=[]), factory.recommendation(complete=False)]
)
def test_every_kind_of_result_is_shown(rec: Recommendation) -> None:
    html = rec._repr_html_()
    assert ("stopped early" in html) == (not rec.complete)
    assert ("<svg" in html) == bool(rec.rates)


def test_a_users_text_is_no_markup() -> None:
    html = factory.recommendation(notes=["<script>alert(1)</script>"])._repr_html_()
    assert "<script" not in html


LOOK = """
import os, pathlib, sys
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    browser = playwright.chromium.launch(executable_path=sys.argv[1], args=options)
    page = browser.new_page(viewport={"width": 420, "height": 800})
    page.set_content(pathlib.Path(sys.argv[2]).read_text())
    print(page.evaluate(
        "[...new Set([...document.querySelectorAll('p, td, th, pre')].map(e => getComputedStyle(e).color))].join()"
    ))
    print(page.evaluate("getComputedStyle(document.querySelector('svg text')).fill"))
    print(page.evaluate("document.documentElement.scrollWidth"))
    browser.close()
"""


@pytest.mark.long
@pytest.mark.parametrize("colour", ["rgb(255, 255, 255)", "rgb(20, 20, 20)"])
@pytest.mark.parametrize("doctype", ["", "<!doctype html>"])
def test_all_text_takes_the_themes_colour_and_a_narrow_page_need_not_scroll(
    colour: str, doctype: str, tmp_path: Path
) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium)")
    page = tmp_path / "page.html"
    html = factory.recommendation()._repr_html_()
    page.write_text(f'{doctype}<body style="color: {colour}">{html}</body>')
    # In a process of its own: Playwright's event loop must not stay in this one.
    said = subprocess.run(
        [sys.executable, "-c", LOOK, chromium, str(page)], capture_output=True, text=True, timeout=90
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines() == [colour, colour, "420"]
