"""The page: complete, offline, and no text of the user's can break out of its place."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from autoopt.records import EffectiveBatch, Outcome, Recommendation, TrialResult
from autoopt.report import html, plots
from tests.report import factory

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """Tags, attributes and the text of elements with an id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.blocks: dict[str, str] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "srcset")]
        if tag == "pre":
            self._open = named["id"] or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.blocks[self._open] = self.blocks.get(self._open, "") + data


def page(
    rec: Recommendation, results: list[TrialResult], script: str | None = "print(1 < 2)\n"
) -> tuple[Page, str]:
    text = html.render(rec, results, script)
    return Page(text), text


def figures_in(text: str) -> dict[str, plots.Figure]:
    found = re.search(r"^const figures = (.*);$", text, re.MULTILINE)
    assert found is not None
    made: dict[str, plots.Figure] = json.loads(found[1])
    return made


def test_everything_is_there_and_nothing_is_fetched() -> None:
    rec = factory.recommendation()
    parsed, text = page(rec, factory.trials())
    assert parsed.links == []
    assert "Plotly.react" in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert rec.against_yours.sentence.replace(">", "&gt;") in text
    assert parsed.blocks["paste"] == rec.snippet()
    assert parsed.blocks["yaml"].startswith("# against yours")
    assert parsed.blocks["script"] == "print(1 < 2)\n"
    assert set(figures_in(text)) == {"curves", "rates", "race", "time", "memory", "effort"}
    for name in figures_in(text):
        assert f'id="plot-{name}"' in text


def test_hostile_text_stays_text() -> None:
    rec = factory.recommendation(name=HOSTILE, reason=HOSTILE, notes=[HOSTILE], provenance={"x": HOSTILE})
    first = factory.trials()[0]
    results = [
        first.model_copy(
            update={
                "message": HOSTILE,
                "spec": first.spec.model_copy(update={"stage": HOSTILE, "optimizer": HOSTILE}),
            }
        )
    ]
    parsed, text = page(rec, results, HOSTILE)
    assert parsed.tags.count("script") == 2
    assert "img" not in parsed.tags
    assert parsed.blocks["script"] == HOSTILE
    assert HOSTILE in json.dumps(figures_in(text))


def test_a_page_without_trials_or_script() -> None:
    silent = {"optimizers": [], "effort": [], "race": [], "rates": []}
    parsed, text = page(factory.recommendation(**silent), [], None)
    assert "script" not in parsed.blocks
    assert figures_in(text) == {}


def test_rates_have_a_marker_for_each_length_and_a_cross_for_the_diverged() -> None:
    figure = plots.rates(factory.recommendation(rates=[]), factory.trials())
    assert figure["layout"]["xaxis"]["type"] == "log"
    sgd = [trace for trace in figure["data"] if trace["name"] == "sgd"]
    assert [set(trace["marker"]["symbol"]) - {"x"} for trace in sgd] == [{"circle"}, {"diamond"}, {"square"}]
    assert [trace["marker"]["symbol"][-1] for trace in sgd[:2]] == ["x", "x"]
    assert sum(trace["showlegend"] for trace in sgd) == 1
    assert all(trace["x"] == sorted(trace["x"]) for trace in figure["data"])
    ceiling = factory.workload().initial_loss * 1.1
    assert all(y <= ceiling for trace in figure["data"] for y in trace["y"])


def test_the_front_is_what_nothing_beats_in_both() -> None:
    figure = plots.all_figures(factory.recommendation(), factory.trials())["time"]
    front = next(trace for trace in figure["data"] if trace["name"] == "front of loss and time")
    assert front["x"] == pytest.approx([0.71, 1.01, 1.87])
    assert front["y"] == sorted(front["y"], reverse=True)
    # lion was measured at another length only: its loss is not comparable.
    assert "lion" not in [trace["name"] for trace in figure["data"]]


def test_curves_show_the_best_of_the_longest_trials() -> None:
    rec, results = factory.recommendation(), factory.trials()
    figure = plots.curves(rec, results)
    adamw = next(trace for trace in figure["data"] if trace["name"] == "adamw")
    assert adamw["x"][-1] > 1400
    assert next(trace for trace in figure["data"] if trace["name"] == "yours")["line"]["dash"] == "dash"
    colours = [trace["line"]["color"] for trace in figure["data"]]
    assert len(set(colours)) == len(colours)


def test_the_effective_batch_and_trials_with_another_one_are_told() -> None:
    trials = factory.trials()
    first = trials[0]
    spec = first.spec.model_copy(update={"hyper": {**first.spec.hyper, "batch": 2.0}, "steps": 1500})
    curve = [(375, 1.0), (750, 0.05)]
    larger = first.model_copy(
        update={"spec": spec, "curve": curve, "loss": 0.05, "outcome": Outcome.COMPLETED}
    )
    seen = EffectiveBatch(samples=128, samples_per_batch=64, accumulate=2)
    hyper = {**factory.ADAMW, "batch": 2.0}
    rec = factory.recommendation(recommendation=factory.choice(hyper=hyper, steps=750, effective_batch=seen))
    _, text = page(rec, [larger, *trials[1:]])
    assert "128 samples (64 a batch, 2 batches accumulated)" in text
    assert "loss at 750 steps" in text
    assert "<td>750 of 2 x the batch</td>" in text
    name = first.spec.optimizer
    (trace,) = [t for t in figures_in(text)["curves"]["data"] if t["name"] == name]
    assert trace["x"] == [750, 1500], "at equal samples"


def test_an_optimizer_of_which_nothing_is_known_has_a_reason_and_no_row() -> None:
    first, second, *_ = factory.rows()
    update = {"expected": None, "trials": 0, "status": "not tried", "reason": "the time ran out"}
    rec = factory.recommendation(optimizers=[first, second.model_copy(update=update)])
    text = html.render(rec, [])
    assert f"Not tried: {second.optimizer} (the time ran out)" in text
    assert '<tr class="not tried">' not in text
