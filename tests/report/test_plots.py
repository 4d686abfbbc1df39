"""The plots of a run's story: the belief over rates, the race, the effort, the promise."""

from __future__ import annotations

import json
import math

import pytest

from autoopt.records import Band, RateCurve, RatePoint
from autoopt.report import plots
from autoopt.report.figures import COLOURS, colour, dash
from tests.report import factory


def test_the_belief_at_the_real_length_lies_over_what_was_measured() -> None:
    rec = factory.recommendation()
    figure = plots.rates(rec, factory.trials())
    solid = [t for t in figure["data"] if t["mode"] == "lines" and t["name"] != "band"]
    assert [t["name"] for t in solid] == ["adamw", "muon"]
    assert solid[0]["y"] == [p.mean for p in rec.rates[0].points]
    low, high = (t for t in figure["data"] if t["name"] == "band")
    assert high["fill"] == "tonexty"
    assert all(a < b for a, b in zip(low["y"], high["y"], strict=True))
    # Everybody else waits behind the legend.
    hidden = {t["name"] for t in figure["data"] if t.get("visible") == "legendonly"}
    assert {"adan", "sgd", "lion", "yours"} <= hidden
    assert not hidden & {"adamw", "muon"}


def test_the_recommended_rate_is_a_line_and_its_interval_a_shade() -> None:
    rec = factory.recommendation()
    shade, line = plots.rates(rec, factory.trials())["layout"]["shapes"]
    assert (shade["x0"], shade["x1"]) == rec.recommendation.lr_interval
    assert line["x0"] == line["x1"] == rec.recommendation.hyper["lr"]
    keep = plots.rates(factory.keep(), factory.trials())["layout"]["shapes"]
    assert [s["type"] for s in keep] == ["line"]


def test_the_axis_holds_the_best_belief_and_no_more_than_the_loss_before_training() -> None:
    rec = factory.recommendation()
    low, high = plots.rates(rec, factory.trials())["layout"]["yaxis"]["range"]
    best = min(p.mean for p in rec.rates[0].points)
    wide = plots.rates(rec, factory.trials())["layout"]["yaxis"]["type"] == "log"
    assert low < (math.log10(best) if wide else best) < high
    worst = rec.workload.initial_loss * 1.1
    assert high < (math.log10(worst) if wide else worst) + 0.2


def test_a_metric_is_drawn_as_the_metric() -> None:
    curve = RateCurve(
        optimizer="adamw",
        of="accuracy",
        steps=1500,
        height_steps=375,
        points=[RatePoint(rate=r, mean=0.97, low=0.96, high=0.98) for r in (1e-3, 1e-2)],
    )
    figure = plots.rates(factory.recommendation(rates=[curve]), factory.trials())
    assert figure["layout"]["yaxis"]["title"]["text"] == "final accuracy"
    points = [t for t in figure["data"] if "marker" in t and t["name"] == "adamw"]
    assert {y for t in points for y in t["y"]} == {0.97}
    assert "height that of trials of 375 steps" in figure["note"]


def test_the_race_has_a_line_for_each_optimizer_and_a_cross_where_it_left() -> None:
    figure = plots.race(factory.recommendation())
    lines = {t["name"]: t for t in figure["data"]}
    assert set(lines) == {"adamw", "muon", "sgd", "lion"}
    assert lines["adamw"]["x"] == ["race 1", "race 2", "confirm"]
    assert lines["adamw"]["y"] == pytest.approx([40, 60, 70])
    assert lines["lion"]["marker"]["symbol"] == ["x"]
    assert lines["sgd"]["marker"]["symbol"] == ["circle"]
    assert figure["layout"]["xaxis"]["categoryarray"] == ["race 1", "race 2", "confirm"]


def test_effort_is_stacked_by_stage_and_adds_up() -> None:
    rec = factory.recommendation()
    figure = plots.effort(rec)
    assert [t["name"] for t in figure["data"]] == ["race", "confirm"]
    assert figure["layout"]["barmode"] == "stack"
    assert sum(sum(t["x"]) for t in figure["data"]) == pytest.approx(sum(e.seconds for e in rec.effort))
    assert sum(sum(t["text"]) for t in figure["data"]) == sum(e.trials for e in rec.effort)


def test_the_promise_is_drawn_where_there_is_one() -> None:
    assert "promise" not in plots.all_figures(factory.recommendation(), factory.trials())
    bands = [
        Band(of="training loss", share=0.01, begin=0, step=15, low=2.0, high=2.2),
        Band(of="training loss", share=1, begin=1350, step=1500, low=0.1, high=0.2),
        Band(of="validation loss", share=1, begin=1350, step=1500, low=0.1, high=9.0),
    ]
    figure = plots.all_figures(factory.recommendation(promise=bands), factory.trials())["promise"]
    assert [t["name"] for t in figure["data"]] == ["training loss", "validation loss"]
    first = figure["data"][0]
    assert first["y"][0] + first["error_y"]["array"][0] == pytest.approx(2.2)
    assert first["y"][0] - first["error_y"]["arrayminus"][0] == pytest.approx(2.0)
    # A band beyond the loss before training does not flatten the rest.
    assert figure["layout"]["yaxis"]["range"][1] < 3


def test_lines_that_share_a_colour_differ_in_their_dashes() -> None:
    rows = [factory.rows()[0].model_copy(update={"optimizer": f"o{i}"}) for i in range(len(COLOURS) + 1)]
    rec = factory.recommendation(optimizers=rows)
    last = f"o{len(COLOURS)}"
    assert colour("o0", rec) == colour(last, rec)
    assert (dash("o0", rec), dash(last, rec)) == ("solid", "dot")


def test_figures_are_plain_json() -> None:
    json.dumps(plots.all_figures(factory.recommendation(), factory.trials()), allow_nan=False)
