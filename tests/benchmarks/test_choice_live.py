from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoopt.records import BASELINE
from benchmarks.choice.live import __main__ as command
from benchmarks.choice.live import finder, lines, ours, ray_tune, scores, searches, standing, untuned
from benchmarks.choice.live.crew import OVERRUN, Crew
from benchmarks.choice.live.nouns import DEFAULT, SCORING, Ended, Pick, Seen, Task, Tuned, Unavailable
from benchmarks.choice.live.scores import Scores
from benchmarks.choice.live.setting import Setting, Tuner
from benchmarks.choice.live.tuners import TUNERS, Row
from tests.benchmarks.choice_tables import EASY, surface

TOY = """
import torch
from torch import nn

STEPS = 40
INPUTS = torch.linspace(-1, 1, 32).reshape(8, 4, 1)

def build_model():
    return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))

def train_dataloader():
    return [(x, 2 * x) for x in INPUTS]

def val_dataloader():
    return [(x, 2 * x) for x in INPUTS]

def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()
"""
NAMES = ("adamw", "sgd", "schedule_free_adamw")
GOOD, BAD = Pick.at("adamw", 0.03), Pick.at("sgd", 1e30)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live") / "toy.py"
    path.write_text(TOY)
    return path


@pytest.fixture(scope="module")
def crew(target: Path) -> Iterator[Crew]:
    with Crew(target) as crew:
        yield crew


@pytest.fixture
def setting(target: Path, crew: Crew, tmp_path: Path) -> Setting:
    return Setting("toy", target, NAMES, 0.5, 0, crew, tmp_path)


def ends(crew: Crew, *tasks: Task, seconds: float = 30.0) -> list[Ended]:
    """What became of some tasks, in their order; those that did not end in time are left out."""
    numbered = [replace(task, number=i) for i, task in enumerate(tasks)]
    waiting, found = iter(numbered), dict[int, Ended]()
    crew.run(seconds, lambda _now: next(waiting, None), lambda task, end: found.update({task.number: end}))
    return [found[i] for i in sorted(found)]


# --- the finder ----------------------------------------------------------------------------------------------


def test_the_valley_is_the_longest_falling_subsequence_and_the_rate_lies_half_way_down() -> None:
    flat, down = [1.0] * 30, [1.0 - 0.01 * i for i in range(1, 31)]
    index = finder.valley(flat + down + [2.0] * 10)
    assert 30 + 10 < index < 30 + 20
    assert finder.valley([1.0, 2.0, 3.0]) == 0


def test_a_sweep_is_smoothed_ends_when_it_explodes_and_nothing_is_made_of_too_little() -> None:
    losses, swept = finder.Smoothed(), finder.rates()
    assert (swept[0], swept[-1]) == pytest.approx((1e-7, 10.0))
    losses.add(2.0)
    assert losses.values == [pytest.approx(2.0)]  # no bias towards zero
    losses.add(2e4)
    assert losses.exploded
    assert finder.suggest(swept, losses.values) is None
    fallen = [1.0 if rate < 1e-4 else 1 / (1 + 1e3 * rate) for rate in swept[:80]]
    found = finder.suggest(swept, fallen)
    assert found is not None
    assert 1e-4 < found < swept[75]


# --- workers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_is_validated_on_the_way_ends_as_a_trial_does(crew: Crew, name: str) -> None:
    points: list[Seen] = []
    found: dict[str, Ended] = {}
    tasks = iter([Task(kind, Pick.at(name, 0.01), 40, 7, 4) for kind in ("plain", "watched")])
    crew.run(
        30.0,
        lambda _now: next(tasks, None),
        lambda task, end: found.update({task.kind: end}),
        lambda _task, seen: points.append(seen) or True,  # type: ignore[func-returns-value]
    )
    assert [seen.point for seen in points] == [1, 2, 3, 4]
    assert found["watched"].loss == points[-1].loss
    # Weights that are averaged are computed back and forth at every look, so those may differ in the last digits.
    assert found["watched"].loss == pytest.approx(found["plain"].loss, rel=1e-3 if "free" in name else 1e-12)


def test_a_run_is_stopped_at_a_word_and_at_the_end_of_the_time_and_the_worker_goes_on(crew: Crew) -> None:
    told: list[Ended] = []
    tasks = iter([Task("watched", GOOD, 40, 0, 4)])
    crew.run(30.0, lambda _now: next(tasks, None), lambda _task, end: told.append(end), lambda *_: False)
    assert told == [Ended(None, "stopped")]
    begin = time.monotonic()
    endless = Task("watched", GOOD, 10**7, 0, 10**6)
    assert ends(crew, endless, replace(endless, kind="plain"), seconds=0.2) == []
    assert time.monotonic() - begin < 5
    (after,) = ends(crew, Task("plain", GOOD, 40, 0))
    assert after.how == "completed"


def test_what_diverges_or_cannot_be_built_is_a_result(crew: Crew) -> None:
    watched, plain, odd = ends(
        crew,
        Task("watched", BAD, 40, 0, 4),
        Task("plain", BAD, 40, 0),
        Task("plain", Pick.of("adamw", {"lr": 1e-3, "nonsense": 1.0}), 40, 0),
    )
    assert (watched.loss, watched.how) == (plain.loss, plain.how) == (None, "diverged")
    assert odd.loss is None
    assert "nonsense" in odd.how


def test_a_workload_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="does not exist"):
        Crew(tmp_path / "nowhere.py", workers=1)


# --- tuners --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tuner", [searches.random_full, searches.adamw_tpe, searches.optuna_hyperband, untuned.lr_finder]
)
def test_a_tuner_keeps_to_its_time_and_chooses_what_it_may(tuner: Tuner, setting: Setting) -> None:
    begin = time.monotonic()
    tuned = tuner(setting)
    assert tuned.seconds <= time.monotonic() - begin
    assert tuned.seconds <= OVERRUN * setting.seconds + 0.2
    assert tuned.started >= tuned.finished >= 1
    assert tuned.pick.optimizer in (*NAMES, BASELINE)
    if tuner is searches.adamw_tpe:
        assert tuned.pick.optimizer == "adamw"


def test_who_has_no_time_is_left_with_adamws_default(setting: Setting) -> None:
    tuned = searches.random_full(replace(setting, seconds=1e-6))
    assert tuned.pick == DEFAULT
    assert "default" in tuned.note
    assert untuned.fixed(setting) == untuned.adamw_default(setting)  # there is no table to learn from


@pytest.mark.long
def test_the_product_runs_with_its_own_pool_and_planner(setting: Setting) -> None:
    tuned = ours.autoopt(replace(setting, seconds=1.0))
    assert tuned.pick.optimizer
    assert tuned.pick.hyper["lr"] > 0
    assert tuned.finished >= 1
    assert tuned.startup > 0


@pytest.mark.long(seconds=40)
@pytest.mark.skipif(not ray_tune.installed(), reason="Ray's environment is not there; the command makes it")
def test_ray_runs_in_its_own_environment(setting: Setting) -> None:
    tuned = ray_tune.ray_tune(replace(setting, seconds=1.5))
    assert tuned.pick.optimizer in (*NAMES, BASELINE)
    assert tuned.started >= 2


def test_ray_that_cannot_be_installed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(Unavailable, match="could not be installed"):
        ray_tune.environment(tmp_path / "file" / "ray")


# --- scores --------------------------------------------------------------------------------------------------


def test_a_configuration_is_scored_once_and_a_diverged_one_counts_as_the_initial_loss(
    crew: Crew, tmp_path: Path
) -> None:
    file = tmp_path / "scores.jsonl"
    kept = Scores(file)
    assert kept.fill("toy", [GOOD, BAD, GOOD], crew, "a") == 6
    assert {line["seed"] for line in lines.read(file)} == set(SCORING)
    with file.open("a") as torn:
        torn.write('{"workload": "to')
    again = Scores(file)
    assert again.fill("toy", [GOOD, BAD], crew, "a") == 0
    assert again.best("toy")[0] == GOOD
    assert again.regret("toy", GOOD) == 0
    assert not again.diverged("toy", GOOD)
    assert again.diverged("toy", BAD)
    initial = sorted(line["initial_loss"] for line in lines.read(file))[3]
    assert again.value("toy", BAD) == pytest.approx(math.log(1.01 * initial), rel=0.2)
    assert len(again.missing("toy", [GOOD], "b")) == 3  # the workload's files have changed


def test_a_torn_line_makes_room_for_the_next_one(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    lines.append(file, {"a": 1})
    with file.open("a") as torn:
        torn.write('{"a": ')
    lines.append(file, {"a": 2})
    assert lines.read(file) == [{"a": 1}, {"a": 2}]


def test_the_references_are_the_tables_best_by_fresh_seeds_first() -> None:
    found = scores.references("conv")
    assert len(set(found)) == scores.REFERENCES


# --- the command ---------------------------------------------------------------------------------------------


def test_a_comparison_goes_on_where_it_stopped(
    target: Path,
    crew: Crew,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls: list[float] = []

    def mine(setting: Setting) -> Tuned:
        calls.append(setting.seconds)
        return Tuned(GOOD, 0.1, started=2, finished=1)

    def none(setting: Setting) -> Tuned:
        raise Unavailable("no network")

    monkeypatch.setattr(command, "Crew", lambda _target: nullcontext(crew))
    monkeypatch.setitem(TUNERS, "autoopt", Row("ours", mine))
    monkeypatch.setitem(TUNERS, "ray_tune", Row("Ray", none))

    def compare(*again: str) -> command.Comparison:
        made = command.Comparison(tmp_path / "out", target.parent, tmp_path)
        made.fill(["toy"], [3.0, 1.0], ["autoopt", "adamw_default", "ray_tune"], 2, again)
        return made

    first = compare()
    assert [round(s / calls[0]) for s in calls] == [1, 1, 3, 3]
    assert len(first.lines) == 4 + 2 + 4  # a default does not change from tuning to tuning
    assert "NOT RUN: no network" in capsys.readouterr().out
    second = compare()  # only what could not be run is tried again
    assert len(calls) == 4
    assert set(second.lines) == set(first.lines)
    assert [line for line in second.lines.values() if "error" not in line] == [
        line for line in first.lines.values() if "error" not in line
    ]
    text = standing.markdown(list(second.lines.values()), second.scores, {}, 0)
    assert "| ours | 0.000" in text
    assert "ray_tune on toy at 3: not run, no network" in text
    assert set(compare("autoopt").lines) == set(first.lines)
    assert len(calls) == 8


def result(tuner: str, budget: float, pick: Pick, workload: str = "toy", **more: Any) -> lines.Line:
    return {
        "workload": workload,
        "tuner": tuner,
        "budget": budget,
        "tuning": 0,
        "unit_seconds": 2.0,
        "optimizer": pick.optimizer,
        "settings": pick.hyper,
        "seconds": 6.0,
        "startup_seconds": 5.0,
        "started": 4,
        "finished": 3,
        "note": "",
        **more,
    }


def test_the_tables_keep_held_out_workloads_apart_and_show_the_replay(tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    losses = {
        ("toy", GOOD): 0.1,
        ("toy", DEFAULT): 0.2,
        ("recurrent", DEFAULT): 0.5,
        ("recurrent", BAD): None,
    }
    for (workload, pick), loss in losses.items():
        for seed in SCORING:
            line = {"workload": workload, "optimizer": pick.optimizer, "settings": pick.hyper, "seed": seed}
            lines.append(file, line | {"loss": loss, "initial_loss": 2.0, "code": ""})
    found = [
        result("adamw_tpe", 3.0, GOOD),
        result("adamw_default", 3.0, DEFAULT, seconds=0.0),
        result("adamw_tpe", 3.0, DEFAULT, "recurrent"),
        result("adamw_default", 3.0, BAD, "recurrent", seconds=0.0),
    ]
    text = standing.markdown(found, Scores(file), {"toy": surface(EASY)}, 1)
    tuned, held = text.split("Held out: recurrent.")
    assert f"| AdamW at its default | {math.log(0.22 / 0.12):.3f}; 0.61 toy; diverged 0 of 1 |" in tuned
    assert f"| AdamW at its default | {math.log(2.02 / 0.52):.3f}; 1.36 recurrent; diverged 1 of 1 |" in held
    assert "| adamw_default | 3 | 1 | 0.606 |" in held
    assert "| adamw_tpe | 3 | 1.00 (most 1.00) | 5.0 | 3.0 / 4.0 |" in held
