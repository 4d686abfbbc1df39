"""What the charts are drawn from: plain data in, plain data out."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.daemon.page import made

pytestmark = pytest.mark.long

Json = Any


def trial(number: int, optimizer: str = "adamw", **changes: Json) -> Json:
    common = {
        "hyper": {},
        "seed": 0,
        "stage": "race 1",
        "state": "completed",
        "message": "",
        "state_bytes": 8,
    }
    return {
        "trial": number,
        "optimizer": optimizer,
        "lr": 0.01,
        "steps": 100,
        "loss": 1.0,
        "step_seconds": 0.01,
        "peak_bytes": 1000,
        "curve": [[1, 3.0], [50, 2.0], [100, 1.0]],
        "began": 10.0 * number,
        "ended": 10.0 * number + 5,
        **common,
        **changes,
    }


def drawn(modules: Page, file: str, call: str, trials: list[Json], **given: Json) -> Json:
    """The figure that `call` makes; in it `trials`, `palette` and what is given are known by name."""
    return modules.evaluate(
        f"""async ([trials, given]) => {{
          const figures = await import("/static/{file}");
          const {{ Palette }} = await import("/static/palette.js");
          const {{ result, workload, rounds, cost }} = given;
          const palette = new Palette(trials, result ?? null, workload ?? null);
          return figures.{call};
        }}""",
        [trials, given],
    )


def test_a_curve_is_bold_for_the_best_of_the_longest(modules: Page) -> None:
    trials = [
        trial(1, loss=0.5),
        trial(2, steps=200, loss=0.9),
        trial(3, steps=200, loss=0.8),
        trial(4, "sgd", state="running", loss=None),
    ]
    series = drawn(modules, "figure_curves.js", "curves(trials, palette)", trials)["series"]
    assert {one["key"]: one["legend"] for one in series} == {
        "trial 1": False,
        "trial 2": False,
        "adamw": True,
        "sgd": True,
    }
    bold = next(one for one in series if one["key"] == "adamw")
    assert "trial 3" in bold["points"][0]["text"]


def test_a_diverged_curve_does_not_set_the_axis(modules: Page) -> None:
    trials = [trial(1), trial(2, "sgd", state="diverged", loss=None, curve=[[1, 3.0], [9, 4e6]])]
    low, high = drawn(modules, "figure_curves.js", "curves(trials, palette)", trials)["y"]["range"]
    assert 0.5 < low < 1
    assert 3 < high < 4


def test_the_users_own_is_grey_and_dashed_and_no_colour_changes_when_another_comes(modules: Page) -> None:
    few = [trial(1, "muon"), trial(2, "baseline")]
    before, after = (
        {
            one["key"]: (one["colour"], one["dash"])
            for one in drawn(modules, "figure_curves.js", "curves(trials, palette)", some)["series"]
        }
        for some in (few, [*few, trial(3, "adamw")])
    )
    assert before.items() <= after.items()
    assert before["baseline"][1] is not None
    assert before["muon"][1] is None


def test_what_fails_is_a_cross_at_the_worst_value(modules: Page) -> None:
    trials = [
        trial(1, lr=0.001, loss=2.0),
        trial(2, lr=0.01, loss=1.0),
        trial(3, lr=1.0, loss=None, state="diverged"),
        trial(4, lr=0.5, loss=40.0),
    ]
    call = "rates(trials, palette, null, workload)"
    points = drawn(modules, "figure_rates.js", call, trials, workload={"initial_loss": 2.3})["series"][0][
        "points"
    ]
    assert [(p["x"], p["shape"]) for p in points] == [
        (0.001, "circle"),
        (0.01, "circle"),
        (0.5, "cross"),
        (1.0, "cross"),
    ]
    assert points[2]["y"] == points[3]["y"] == pytest.approx(2.53)


def test_each_length_has_its_own_shape_and_one_entry_of_the_legend(modules: Page) -> None:
    trials = [trial(1, steps=100), trial(2, steps=400), trial(3, steps=400, lr=0.1)]
    figure = drawn(modules, "figure_rates.js", "rates(trials, palette, null, null)", trials)
    assert [[p["shape"] for p in one["points"]] for one in figure["series"]] == [
        ["circle"],
        ["diamond", "diamond"],
    ]
    assert [one["legend"] for one in figure["series"]] == [True, False]
    assert "circle 100, diamond 400" in figure["note"]


def test_the_recommended_rate_and_its_interval_are_marked(modules: Page) -> None:
    result = made.result()
    trials = made.live(made.job("a"))["trials"]
    figure = drawn(
        modules, "figure_rates.js", "rates(trials, palette, result, result.workload)", trials, result=result
    )
    shade, line = figure["guides"]
    assert [shade["x"], shade["to"]] == result["recommendation"]["lr_interval"]
    assert line["x"] == result["recommendation"]["hyper"]["lr"]
    assert figure["series"][0]["band"] is not None
    assert figure["series"][0]["name"] == "muon"


def test_the_best_so_far_only_falls_and_ends_with_a_cross_where_it_left(modules: Page) -> None:
    trials = [trial(1, loss=2.0), trial(2, loss=3.0), trial(3, loss=1.0), trial(4, "sgd", loss=5.0)]
    rounds = [
        {"stage": "race 1", "kept": ["adamw", "sgd"], "dropped": {}, "seconds": 41.0},
        {"stage": "race 2", "kept": ["adamw"], "dropped": {"sgd": "2 % chance"}, "seconds": 60.0},
    ]
    figure = drawn(modules, "figure_race.js", "soFar(trials, rounds, palette)", trials, rounds=rounds)
    adamw, sgd = figure["series"]
    assert [(p["x"], p["y"]) for p in adamw["points"]] == [(15, 2.0), (35, 1.0), (60, 1.0)]
    assert "shape" not in adamw["points"][-1]
    assert (sgd["points"][-1]["x"], sgd["points"][-1]["shape"]) == (60, "cross")
    assert "2 % chance" in sgd["points"][-1]["text"]


def test_who_comes_back_has_not_left(modules: Page) -> None:
    rounds = [
        {"stage": "race 1", "kept": ["a"], "dropped": {"b": "behind", "c": "behind"}, "seconds": 1},
        {"stage": "race 2", "kept": ["a", "b"], "dropped": {"c": "behind still"}, "seconds": 2},
    ]
    left = modules.evaluate(
        "async (rounds) => Object.fromEntries((await import('/static/figure_race.js')).lastLeft(rounds))",
        rounds,
    )
    assert left == {"c": {"stage": "race 1", "seconds": 1, "why": "behind"}}


def test_the_chances_are_those_of_the_recommendation(modules: Page) -> None:
    result = made.result()
    figure = drawn(modules, "figure_race.js", "chances(result, palette)", [], result=result)
    told = [r for r in result["race"] if r["chances"]]
    muon = next(one for one in figure["series"] if one["key"] == "muon")
    assert [p["y"] for p in muon["points"]] == pytest.approx([100 * r["chances"]["muon"] for r in told])
    assert figure["x"]["names"] == [r["name"] for r in told]


@pytest.mark.parametrize(("cost", "key"), [("time", "step_seconds"), ("memory", "peak_bytes")])
def test_the_trade_off_rings_what_nothing_beats(modules: Page, cost: str, key: str) -> None:
    trials = [
        trial(1, "a", loss=1.0, step_seconds=0.02, peak_bytes=2000),
        trial(2, "b", loss=2.0, step_seconds=0.01, peak_bytes=1000),
        trial(3, "c", loss=3.0, step_seconds=0.03, peak_bytes=3000),
    ]
    figure = drawn(modules, "figure_trade.js", "trade(trials, palette, null, cost)", trials, cost=cost)
    markers = {one["key"]: one["points"][0] for one in figure["series"] if one["key"] != "front"}
    assert {name: point["ring"] for name, point in markers.items()} == {"a": True, "b": True, "c": False}
    assert {name: point["x"] for name, point in markers.items()} == {t["optimizer"]: t[key] for t in trials}
    front = next(one for one in figure["series"] if one["key"] == "front")
    assert [p["y"] for p in front["points"]] == [2.0, 1.0]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.5, 1.0])
def test_every_chart_can_be_drawn_at_every_moment_of_a_real_run(modules: Page, share: float) -> None:
    live = made.live(made.job("a"), share)
    for file, call in (
        ("figure_curves.js", "curves(trials, palette)"),
        ("figure_rates.js", "rates(trials, palette, null, workload)"),
        ("figure_race.js", "soFar(trials, rounds, palette)"),
        ("figure_trade.js", "trade(trials, palette, null, 'time')"),
    ):
        figure = drawn(modules, file, call, live["trials"], rounds=live["rounds"], workload=live["workload"])
        assert bool(figure["series"]) <= bool(live["trials"])
        assert all(
            p["x"] is not None and p["y"] is not None for one in figure["series"] for p in one["points"]
        )
