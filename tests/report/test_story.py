"""How a run went, in words: what is said, what is left out, and what fits."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from autoopt.records import BASELINE, Confidence, Round
from autoopt.report import console, story
from tests.report import factory


def spent(**changes: Any) -> Any:
    return factory.story()["spent"].model_copy(update=changes)


def test_the_time_is_shared_out_over_the_workers_after_the_start() -> None:
    lines = dict(story.time_spent(factory.recommendation()))
    assert lines["start-up"] == "6 s, 10 % of the budget of 60 s"
    # 92 of 2 x 54 seconds.
    assert lines["training"] == (
        "85 % of 2 workers x 54 s inside training steps; waiting for data 5 %, evaluation 4 %, unused 6 %"
    )
    assert lines["race"].startswith("muon 9 in 16.9 s, adamw 9 in 15.8 s")
    assert "yours 3 in 1 s" in lines["confirm"]
    assert lines["in all"].startswith("58.7 s start to end")


def test_a_large_start_is_said_to_be_one() -> None:
    small = factory.recommendation(spent=spent(startup_seconds=15.0))
    large = factory.recommendation(spent=spent(startup_seconds=15.1, compile=4.0))
    assert "large part" not in dict(story.time_spent(small))["start-up"]
    said = dict(story.time_spent(large))["start-up"]
    assert said.startswith(
        "15.1 s, 25 % of the budget of 60 s, compiling 4 s: a large part of a small budget"
    )


def test_a_start_that_took_it_all_leaves_no_training() -> None:
    gone = factory.recommendation(spent=spent(startup_seconds=61.0, train=0.0))
    assert dict(story.time_spent(gone))["training"] == "the start-up left no time for any"


def test_the_race_tells_who_left_with_what_chance() -> None:
    lines = story.race(factory.recommendation())
    assert lines[0] == ("cut", "radam, nadam (the budget of 60 s allows 8 optimizers)")
    assert lines[1] == (
        "race 1",
        "3 trials each: adamw, sgd; 1 trial each: muon, yours; then ahead: adamw (40 %); out: lion (2 %)",
    )
    assert lines[2][1].endswith("out: sgd (failed twice: out of memory)")
    assert story.race(factory.recommendation(race=[])) == []


def test_a_long_race_is_told_by_its_ends() -> None:
    rounds = [
        Round(name=f"race {i}", trials={"adamw": 1}, left={"sgd": "failed"} if i == 10 else {})
        for i in range(1, 21)
    ]
    rec = factory.recommendation(race=rounds, cut={})
    names = [head for head, _ in story.race(rec)]
    assert names == ["race 1", "race 2", "race 3", "...", "race 18", "race 19", "race 20"]
    assert "14 rounds more; out: sgd (failed)" in dict(story.race(rec))["..."]
    assert len(story.race(rec, most=None)) == 20


def test_many_optimizers_are_counted_on_a_terminal_and_named_on_the_page() -> None:
    trials = {name: 1 for name in ("adamw", "sgd", "muon", "lion", "adan", "nadam")}
    rec = factory.recommendation(race=[Round(name="race 1", trials=trials)], cut={})
    assert story.race(rec)[0][1] == "1 trial each: 6 optimizers"
    assert "adan, nadam" in story.race(rec, most=None)[0][1]


def test_what_more_buys() -> None:
    rec = factory.recommendation()
    assert story.what_more_buys(rec) == (
        "a budget of 2 min 30 s can reach high confidence, with trials as long as the real run"
    )
    short = factory.story()["more"].model_copy(update={"longest": 375, "confidence": "medium"})
    assert story.what_more_buys(factory.recommendation(more=short)).endswith(
        "trials of 375 of its 1500 steps"
    )
    assert story.what_more_buys(factory.recommendation(more=None)).startswith("no higher confidence")
    medium = Confidence(label="medium", reasons=["doubt"])
    assert story.what_more_buys(factory.recommendation(more=None, confidence=medium)).startswith(
        "trials are long enough"
    )
    assert story.what_more_buys(factory.recommendation(more=None, spent=None)) == ""


@pytest.mark.parametrize("width", [80, 100])
def test_the_terminal_has_the_three_sections_and_the_gain_stays_first(width: int) -> None:
    out = io.StringIO()
    rec = factory.recommendation()
    console.show(rec, None, Console(file=out, width=width))
    text = out.getvalue()
    assert " ".join(text.split()).startswith(rec.against_yours.sentence)
    places = [
        text.index(f"\n{title}") for title in ("the race", "how the time was spent", "what more would buy")
    ]
    assert places == sorted(places)
    assert max(map(len, text.splitlines())) <= width


def test_an_old_recommendation_has_no_story_and_is_shown() -> None:
    old = {name: value for name, value in factory.recommendation() if name not in factory.story()}
    rec = type(factory.recommendation()).model_validate(old)
    assert (rec.effort, rec.race, rec.rates, rec.spent, rec.more) == ([], [], [], None, None)
    out = io.StringIO()
    console.show(rec, None, Console(file=out, width=100))
    assert "how the time was spent" in out.getvalue()
    assert "the race" not in out.getvalue()
    assert BASELINE in [row.optimizer for row in rec.optimizers]


def test_earlier_runs_that_informed_the_choice_are_named_first() -> None:
    runs = [
        {"run": "out.1", "trials": 23, "same_workload": True, "correlation": 0.95},
        {"run": "small", "trials": 1, "same_workload": False, "correlation": 0.3},
    ]
    made = factory.recommendation()
    told = made.model_copy(update={"provenance": {**made.provenance, "prior": runs}})
    assert story.race(told)[0] == (
        "prior",
        "23 earlier trials of out.1 (the same workload); 1 earlier trial of small (another workload, 30 % alike)",
    )
    assert story.race(told)[1:] == story.race(made)
