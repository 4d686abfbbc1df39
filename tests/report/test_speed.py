"""The speed of a step and the trade-off: what is said, and when."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from autoopt.records import Recommendation, Speed, StepCost, StepCosts, Timing
from autoopt.report import console, html, plots, speed
from tests.report import factory


def timing(seconds: float) -> Timing:
    return Timing(seconds=seconds, low=0.9 * seconds, high=1.2 * seconds)


def measured(**changes: Any) -> Speed:
    values: dict[str, Any] = {
        "clock": "host",
        "steps": 90,
        "data": timing(0.001),
        "forward": timing(0.002),
        "backward": timing(0.004),
        "optimizer": timing(0.003),
        "step": timing(0.009),
        "warmup_steps": 10,
        "warmup_seconds": 0.25,
        "compile_seconds": 0.0,
        "samples_per_second": 6400.0,
    }
    return Speed(**values | changes)


def cost(name: str, relative: float, **changes: Any) -> StepCost:
    values: dict[str, Any] = {
        "optimizer": name,
        "seconds": 0.01 * relative,
        "low": 0.009 * relative,
        "high": 0.012 * relative,
        "relative": relative,
        "relative_low": 0.9 * relative,
        "relative_high": 1.1 * relative,
        "own_seconds": 0.004,
        "rounds": 8,
        "samples_per_second": 6400 / relative,
    }
    return StepCost(**values | changes)


def told(of: Speed | None = None, costs: list[StepCost] | None = None, **workload: Any) -> Recommendation:
    """A recommendation of AdamW with a speed, timed steps and trades."""
    rec = factory.recommendation()
    rows = [
        row.model_copy(
            update={
                "speed": of if row.optimizer == "adamw" else None,
                "trade": "40 % lower loss than AdamW, 2 x its step" if row.optimizer == "muon" else "",
                "seconds_to_adamw": {"muon": 0.7, "adamw": 1.5}.get(row.optimizer),
            }
        )
        for row in rec.optimizers
    ]
    timed = StepCosts(
        shared_seconds=0.006,
        seconds=1.2,
        imports={"pytorch_optimizer": 4.0},
        optimizers=[cost("muon", 2.0), cost("adamw", 1.0)] if costs is None else costs,
    )
    seen = rec.workload.model_copy(update={"step_costs": timed, **workload})
    return rec.model_copy(update={"optimizers": rows, "workload": seen})


def test_the_parts_of_a_step_are_shares_of_all_of_it() -> None:
    lines = dict(speed.lines(told(measured())))
    assert lines["a step"] == "10 ms: waiting for data 10 %, forward 20 %, backward 40 %, optimizer 30 %"
    assert "median of 90 steps by the clock" in lines["measured"]
    assert "left out: 10 steps of warm-up (250 ms)" in lines["measured"]
    assert "compiling" not in lines["measured"]
    assert "side by side in 8 rounds" in lines["all optimizers"]
    assert "imports apart: pytorch_optimizer 4 s" in lines["all optimizers"]


def test_what_cannot_be_told_apart_and_what_was_averaged_is_said() -> None:
    inside = measured(
        forward=None, backward=None, optimizer=None, period=4, clock="device", compile_seconds=3.0
    )
    lines = dict(speed.lines(told(inside)))
    assert "forward, backward and optimizer 90 %, one inside the other" in lines["a step"]
    assert lines["measured"].startswith("mean over periods of 4 of 90 steps by events of the device")
    assert "compiling 3 s" in lines["measured"]


@pytest.mark.parametrize(("data", "bound"), [(0.0035, False), (0.005, True)])
def test_waiting_for_data_above_30_percent_is_said_to_matter_most(data: float, bound: bool) -> None:
    words = speed.input_bound(told(measured(data=timing(data))))
    assert ("optimizer's time hardly matters here" in words) is bound
    if bound:
        assert words.startswith("36 % of a step is waiting for data")


def test_without_trials_the_calibration_tells_whether_it_is_input_bound() -> None:
    assert speed.input_bound(told(None, data_seconds=0.01, step_seconds=0.01)).startswith("50 %")


def test_tokens_are_told_with_what_was_counted() -> None:
    rec = told(measured(), tokens="int64[16, 64] into wte")
    rec = rec.model_copy(update={"expected": rec.expected.model_copy(update={"tokens_per_second": 65_000.0})})
    assert "65 k tokens (int64[16, 64] into wte, padding included)" in dict(speed.lines(rec))["throughput"]


def test_the_table_is_by_cost_and_says_what_was_timed_once() -> None:
    rows = speed.table(told(costs=[cost("muon", 30.0, rounds=1, own_seconds=None), cost("adamw", 1.0)]))
    assert [row[0] for row in rows] == ["adamw", "muon"]
    assert rows[0][3] == "1 (0.9 to 1.1)"
    assert rows[1][2:] == ("once", "30", "213", "", "")
    assert speed.table(factory.recommendation()) == []


def test_a_ratio_of_few_or_scattered_rounds_is_told_with_the_fastest_and_their_number() -> None:
    muon = cost("muon", 55.0, rounds=2, relative_low=1.5, relative_high=108.0, fastest=1.6)
    row = next(r for r in speed.table(told(costs=[muon, cost("adamw", 1.0)])) if r[0] == "muon")
    assert row[2].endswith(" (2 rounds)")
    assert row[3] == "55 (1.5 to 108), fastest 1.6"


def test_trades_are_told_with_the_time_to_adamws_loss() -> None:
    assert speed.trades(told()) == [
        (
            "muon",
            "40 % lower loss than AdamW, 2 x its step; at AdamW's final training loss after 700 ms (AdamW: 1.5 s)",
        )
    ]
    ((head, words),) = speed.trades(factory.recommendation())
    assert head == "nothing"
    assert "was not measured" in words


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_terminal_shows_all_of_it(width: int) -> None:
    out = io.StringIO()
    console.show(told(measured()), None, Console(file=out, width=width))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= max(width, 140)
    assert "what each trades against tuned AdamW" in text
    assert "the speed of a step" in text
    assert "adamw *" in text
    assert "on the Pareto front" in text
    assert "lion *" not in text


def test_the_page_shows_all_of_it() -> None:
    page = html.render(told(measured()), factory.trials())
    for words in ("What each trades against tuned AdamW", "The speed of a step", "side by side", "adamw *"):
        assert words in page


def test_markers_grow_with_memory_and_the_front_has_rings() -> None:
    figure = plots.all_figures(factory.recommendation(), factory.trials())["time"]
    marks = {trace["name"]: trace["marker"] for trace in figure["data"] if "marker" in trace}
    assert marks["adan"]["size"] > marks["adamw"]["size"] > marks["sgd"]["size"]
    assert marks["adamw"]["line"]["width"] > 0 == marks["adan"]["line"]["width"]
    assert "ring" in figure["note"]
