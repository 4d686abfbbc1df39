"""What a notebook shows of a recommendation."""

from __future__ import annotations

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
