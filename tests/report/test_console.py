"""The terminal: what comes first, what fits, what is silent."""

from __future__ import annotations

import io
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import Console

from autoopt.records import (
    BASELINE,
    EffectiveBatch,
    Flags,
    Noted,
    Outcome,
    PlanMade,
    Recommendation,
    RunEnded,
    RunStarted,
    TrialFinished,
    TrialStarted,
    WorkloadLoaded,
)
from autoopt.report import console
from autoopt.report.watch import Watch
from autoopt.session import Observer, Silent
from autoopt.trials.runner import Progress
from tests.report import factory


def shown(rec: Recommendation, width: int, folder: Path | None = None) -> str:
    out = io.StringIO()
    console.show(rec, folder, Console(file=out, width=width))
    return out.getvalue()


def started() -> RunStarted:
    """A run of a minute begins."""
    return RunStarted(
        at=0.0,
        target="model.py",
        arguments=[],
        flags=Flags(),
        budget_seconds=60.0,
        policy={},
        optimizers=None,
        seed=0,
        device="cpu",
        workers=2,
        version="0.1.0",
    )


def drive(observer: Observer) -> None:
    """A small run, as the pipeline tells it."""
    observer.event(started())
    observer.event(
        WorkloadLoaded(at=1.0, report=factory.workload(warnings=["the loader is not reproducible"]))
    )
    observer.event(PlanMade(at=1.0, plan=factory.plan()))
    for result in factory.trials()[:8]:
        observer.event(TrialStarted(at=2.0, spec=result.spec, worker=result.worker))
        observer.progress(
            Progress(worker=result.worker, trial=result.spec.id, step=9, steps=result.spec.steps, loss=0.5)
        )
        observer.tick(10.0)
        observer.event(TrialFinished(at=3.0, result=result))
    observer.event(Noted(at=4.0, text="something [bold]to know[/bold]"))
    observer.event(RunEnded(at=5.0, how="finished", spent_seconds=58.0))


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("make", [factory.recommendation, factory.keep])
def test_the_gain_comes_first_and_nothing_is_cut_off(make: object, width: int) -> None:
    rec: Recommendation = make()  # type: ignore[operator]
    text = shown(rec, width)
    assert " ".join(text.split()).startswith(rec.against_yours.sentence)
    assert rec.snippet() in text
    assert "\u2026" not in text
    assert max(map(len, text.splitlines())) <= width
    for row in rec.optimizers:
        assert row.optimizer in text or row.optimizer == "baseline"
    for part in ("0.1184", "63.4k", "143", "543", "tie", "yours", "radam", "58.7 s start to end", "ms/step"):
        assert part in text
    assert rec.reason in " ".join(text.split())
    assert rec.confidence.label in text


def test_wide_terminals_get_intervals_and_the_metric() -> None:
    assert "0.1184 [0.115, 0.122]" in shown(factory.recommendation(), 140)
    assert "0.1184 ±0.0036" in shown(factory.recommendation(), 80)
    measured = factory.recommendation(settings=factory.settings(metric=("accuracy", "max")))
    assert "accuracy" in shown(measured, 140)
    assert "0.1184 [" in shown(measured, 140)


def test_narrow_terminals_show_what_decides() -> None:
    measured = factory.recommendation(settings=factory.settings(metric=("accuracy", "max")))
    text = shown(measured, 80)
    assert "accuracy" in text
    assert "final loss" not in text


def test_the_loss_at_equal_wall_clock_is_told_beside_the_one_at_equal_steps() -> None:
    first, second, *_ = factory.rows()
    rows = [
        first.model_copy(update={"loss_at_equal_time": 0.5}),
        second.model_copy(update={"loss_at_equal_time": 0.4}),
        second.model_copy(update={"optimizer": "lion", "loss_at_equal_time": None}),
    ]
    text = shown(factory.recommendation(optimizers=rows), 120)
    assert f"equal steps decide): {first.optimizer} 0.5, {second.optimizer} 0.4" in text
    assert "not known from its own trials: lion" in text


def test_losses_of_shorter_trials_are_marked() -> None:
    assert "0.2377 at 375" in shown(factory.recommendation(), 80)


def test_losses_of_longer_trials_are_marked_and_the_length_of_all_others_is_told() -> None:
    rec = factory.recommendation()
    short = rec.expected.model_copy(update={"steps": 200})
    text = shown(rec.model_copy(update={"expected": short}), 120)
    assert f" at {rec.expected.steps}" in text
    assert f"losses are those after 200 of the real run's {rec.settings.steps} steps" in text
    assert ("losses are those after" in shown(rec, 120)) is (rec.expected.steps != rec.settings.steps)


def test_the_baselines_own_rate_is_shown_where_no_trial_changed_it() -> None:
    own = next(row for row in factory.rows() if row.optimizer == BASELINE).model_copy(update={"hyper": {}})
    text = shown(factory.recommendation(optimizers=[own]), 80)
    assert next(line for line in text.splitlines() if line.startswith("yours")).split()[3] == "0.001"


def test_a_stopped_run_says_so_and_markup_in_names_is_text() -> None:
    rec = factory.recommendation(complete=False, notes=["[red]x[/red]"], reason="[link=http://x]y[/link]")
    assert "stopped early" in shown(rec, 100)
    assert "[red]x[/red]" in shown(rec, 100)
    assert "[link=http://x]y[/link]" in shown(rec, 100)


def test_the_script_is_offered_when_it_is_there(tmp_path: Path) -> None:
    assert "train.py" not in shown(factory.recommendation(), 200, tmp_path).splitlines()[-1]
    (tmp_path / "train.py").touch()
    assert f"python {tmp_path / 'train.py'}" in shown(factory.recommendation(), 200, tmp_path)


def test_a_path_with_spaces_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "my runs"
    folder.mkdir()
    (folder / "train.py").touch()
    assert f"python '{folder / 'train.py'}'" in shown(factory.recommendation(), 200, folder)


def test_no_table_where_nothing_was_tried() -> None:
    rec = factory.recommendation()
    cut = {row.optimizer: "the budget does not reach it" for row in rec.optimizers}
    text = shown(rec.model_copy(update={"cut": cut, "race": []}), 120)
    assert "final loss" not in text
    assert "not tried: " in text


def test_an_optimizer_of_which_nothing_is_known_has_no_row_but_a_reason() -> None:
    first, second, *_ = factory.rows()
    idle = second.model_copy(
        update={"expected": None, "trials": 0, "status": "not tried", "reason": "time ran out"}
    )
    text = shown(factory.recommendation(optimizers=[first, idle]), 120)
    assert [line for line in text.splitlines() if line.startswith(second.optimizer)] == [
        f"{second.optimizer}: time ran out"
    ]


def test_a_terminal_of_60_columns_shows_every_name() -> None:
    rec = factory.recommendation()
    lines = shown(rec, 60).splitlines()
    for row in (r for r in rec.optimizers if r.expected and r.optimizer != BASELINE):
        assert any(line.startswith(row.optimizer) and f"{row.hyper['lr']:.2g}" in line for line in lines)
    assert not any("…" in line for line in lines)


def test_the_plan() -> None:
    out = io.StringIO()
    console.show_plan(factory.plan(), Console(file=out, width=80))
    text = out.getvalue()
    for part in ("1.2 ms a step", "84000 steps", "race", "1500", "medium", "2 min 30 s", "cut: radam"):
        assert part in text


def test_lines_for_logs(capsys: pytest.CaptureFixture[str]) -> None:
    with console.observer() as observer:
        drive(observer)
    out, err = capsys.readouterr()
    assert out == ""
    assert "race 1 begins" in err
    assert "best so far: " in err
    assert "something [bold]to know[/bold]" in err
    assert "not reproducible" in err
    assert "\x1b" not in err


def test_a_failure_is_told_once() -> None:
    failed = RunEnded(at=5.0, how="failed", spent_seconds=3.0, message="model.py does not exist.")
    assert Watch().event(failed) == ["failed after 3 s"]


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with console.observer(quiet=True) as observer:
        assert isinstance(observer, Silent)
        drive(observer)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_progress_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    with console.observer() as observer:
        drive(observer)
        observer.tick(30.0)
        observer.live.refresh()  # type: ignore[attr-defined]
    text = stream.getvalue()
    assert "8 of 59 trials" in text
    assert "30 s left" in text
    assert "something [bold]to know[/bold]" in text


def test_the_clock_runs_while_the_file_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("autoopt.report.console.time.monotonic", lambda: now)
    view = console._View(Console(file=io.StringIO()))

    def head() -> str:
        out = io.StringIO()
        Console(file=out, width=80).print(view)
        return out.getvalue().splitlines()[0]

    assert "left" not in head()  # the budget is not known yet
    view.event(started())
    now += 20
    assert "40 s left" in head()


def test_the_best_trial_is_the_best_of_the_longest() -> None:
    watch = Watch()
    short, long = factory.trials()[0], factory.trials()[10]
    assert short.spec.steps < long.spec.steps
    worse = long.model_copy(update={"loss": 5.0})
    for result in (short, worse):
        watch.event(TrialFinished(at=0.0, result=result))
    assert watch.best == worse
    watch.event(TrialFinished(at=0.0, result=long))
    assert watch.best == long
    lost = long.model_copy(update={"outcome": Outcome.CRASHED, "loss": None, "message": "killed by\nSIGSEGV"})
    assert watch.event(TrialFinished(at=0.0, result=lost)) == ["adamw lr 0.0024: crashed, killed by SIGSEGV"]
    short = lost.model_copy(
        update={"outcome": Outcome.OUT_OF_MEMORY, "message": "out of memory on cpu: asked for 1 GiB"}
    )
    said = watch.event(TrialFinished(at=0.0, result=short))
    assert said == ["adamw lr 0.0024: out of memory on cpu: asked for 1 GiB"]
    assert (watch.done, watch.failed) == (5, 2)


def test_where_a_metric_decides_the_best_is_the_best_by_it() -> None:
    watch = Watch()
    metric = factory.settings(metric=("accuracy", "max"))
    watch.event(WorkloadLoaded(at=0.0, report=factory.workload(settings=metric)))
    good = factory.trials()[0].model_copy(update={"metric": 0.99, "loss": 0.5})
    low = good.model_copy(update={"metric": 0.9, "loss": 0.1})
    for result in (low, good):
        watch.event(TrialFinished(at=0.0, result=result))
    assert watch.best == good
    assert watch.best_words().startswith("accuracy 0.99 ")


def test_the_picture_is_an_svg_that_fetches_nothing() -> None:
    text = console.svg(factory.recommendation())
    assert ET.fromstring(text).tag.endswith("svg")
    assert "http" not in text.replace("http://www.w3.org", "").replace("https://www.textualize.io", "")
    assert "url(&quot;" not in text
    assert text == console.svg(factory.recommendation())


def test_another_batch_is_marked_and_its_step_told_for_as_many_samples() -> None:
    row = factory.rows()[0]
    assert row.expected is not None
    twice = row.expected.model_copy(update={"step_seconds": 0.0018})
    larger = row.model_copy(update={"hyper": {**row.hyper, "batch": 2.0}, "expected": twice})
    seen = EffectiveBatch(samples=128, samples_per_batch=64, accumulate=2)
    rec = factory.recommendation(
        optimizers=[larger, *factory.rows()[1:]],
        recommendation=factory.choice(hyper={**factory.ADAMW, "batch": 2.0}, effective_batch=seen),
    )
    lines = shown(rec, 140).splitlines()
    (line,) = [text for text in lines if text.startswith("adamw 2x")]
    assert " 0.9 " in line
    assert any("a step sees  128 samples (64 a batch, 2 batches accumulated)" in text for text in lines)
    assert any(text.startswith("2x, 4x ...: a step sees so many times") for text in lines)
    assert "2x, 4x" not in shown(factory.recommendation(), 140)
