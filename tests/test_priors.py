"""Earlier runs as priors, on runs that train nothing: read, refused, kept, told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from autoopt.errors import RunError, UsageError
from autoopt.journal import replay
from autoopt.priors import read, refuse_others, same_workload, take, tell
from autoopt.records import (
    BASELINE,
    Flags,
    Outcome,
    PriorTaken,
    Recommendation,
    TrialFinished,
    WorkloadReport,
)
from autoopt.report import story
from autoopt.trials.testing import fake_report
from autoopt.tuning.earlier import MOST
from tests.test_sitting import Engine, go, job, stop_after

BUDGET = 5.0
"""Seconds, half of them kept for the report: trials that train nothing take none."""


def ran(folder: Path, engine: Engine | None = None, **changes: Any) -> Recommendation:
    found = go(job(folder, **{"budget": BUDGET} | changes), engine)
    assert isinstance(found, Recommendation)
    return found


def report(**changes: Any) -> WorkloadReport:
    return fake_report("model.py", Flags()).model_copy(update={"modules": {"model.py": "a" * 64}, **changes})


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended."""
    folder = tmp_path_factory.mktemp("before")
    ran(folder)
    return folder / "run"


# --- reading --------------------------------------------------------------------------------------------------


def test_a_run_is_read_without_its_curves_and_each_once(before: Path) -> None:
    one = read(before)
    ended = [e.result for e in replay(before) if isinstance(e, TrialFinished)]
    assert [r.spec for r in one.results] == [r.spec for r in ended if r.outcome is Outcome.COMPLETED]
    assert not any(r.curve or r.digests for r in one.results)
    assert len(take([before, before / ".." / "run"])) == 1


def test_a_folder_that_holds_no_run_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match="holds no run") as caught:
            read(path)
        assert str(path) in caught.value.message
        assert "events.jsonl" in caught.value.hint


def test_a_damaged_run_is_not_told_to_be_resumed(before: Path, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes((before / "events.jsonl").read_bytes() + b"{\n")
    with pytest.raises(RunError, match=r"line \d+ is damaged") as caught:
        read(tmp_path)
    assert "--resume" not in caught.value.hint
    assert "leave this prior out" in caught.value.hint


def test_a_run_without_a_finished_trial_points_to_the_one_that_moved_aside(
    before: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    begun = [line for line in (before / "events.jsonl").read_text().splitlines() if "trial" not in line]
    (run / "events.jsonl").write_text("\n".join(begun[:3]) + "\n")
    with pytest.raises(RunError, match="no finished trial"):
        read(run)
    shutil.copytree(before, tmp_path / "run.2")
    with pytest.raises(RunError, match="no finished trial") as caught:
        read(run)
    assert str(tmp_path / "run.2") in caught.value.hint


# --- telling --------------------------------------------------------------------------------------------------


def test_a_run_that_compared_by_another_metric_is_refused(before: Path) -> None:
    settings = report().settings.model_copy(update={"metric": ("accuracy", "max")})
    with pytest.raises(UsageError) as caught:
        tell([read(before)], report(settings=settings), 0, [])
    assert str(before) in caught.value.message
    assert "by the validation loss, and this one compares by accuracy (max)" in caught.value.message
    assert "METRIC" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"modules": {"moved/model.py": "a" * 64}}, True),
        ({"modules": {"model.py": "b" * 64}}, False),
        ({"trainable": 11}, False),
        ({"initial_loss": 9.9}, False),
        ({"settings": report().settings.model_copy(update={"steps": 77})}, True),
        ({"settings": report().settings.model_copy(update={"clip": 1.0})}, False),
    ],
)
def test_the_same_workload_is_known_by_files_model_data_and_settings(
    before: Path, changes: dict[str, Any], same: bool
) -> None:
    assert same_workload(read(before), report(**changes), 0, []) is same


def test_other_arguments_are_another_workload_and_objects_are_known_by_their_loss_alone(before: Path) -> None:
    one = read(before)
    assert not same_workload(one, report(), 0, ["--width", "8"])
    assert same_workload(one, report(initial_loss=9.9), 1, []), "another seed has another loss"
    bare = one.model_copy(update={"report": report(modules={})})
    assert same_workload(bare, report(modules={}), 0, [])
    assert not same_workload(bare, report(modules={}), 1, [])


def test_the_users_own_is_told_as_the_optimizer_it_was(before: Path) -> None:
    taken = read(before)
    own = sum(r.spec.optimizer == BASELINE for r in taken.results)
    assert own
    (told,) = tell([taken], report(), 0, [])
    assert len(told.trials) == len(taken.results)
    assert all(p.optimizer != BASELINE for p in told.trials)
    foreign = report().baseline.model_copy(update={"registry_name": None})
    unknown = taken.model_copy(update={"report": report(baseline=foreign)})
    (told,) = tell([unknown], report(), 0, [])
    assert len(told.trials) == len(taken.results) - own


# --- in a run -------------------------------------------------------------------------------------------------


def test_the_folder_that_a_run_replaces_can_be_its_prior_and_what_is_recommended_was_trained_here(
    tmp_path: Path,
) -> None:
    ran(tmp_path)
    number = min(MOST, len(read(tmp_path / "run").results))
    engine = Engine()
    found = ran(tmp_path, engine, prior=[tmp_path / "run"])
    moved = str(tmp_path / "run.1")
    kept = [e for e in replay(tmp_path / "run") if isinstance(e, PriorTaken)]
    assert [(e.folder, e.asked) for e in kept] == [(moved, str(tmp_path / "run"))]
    assert found.provenance["prior"] == [
        {"run": moved, "trials": number, "same_workload": True, "correlation": 0.95}
    ]
    assert story.race(found)[0] == ("prior", f"{number} earlier trials of {moved} (the same workload)")
    assert Recommendation.load(tmp_path / "run") == found
    assert found.recommendation.optimizer in {s.optimizer for s in engine.executed}


def test_several_runs_inform_one_and_a_run_without_any_has_no_word_of_it(
    before: Path, tmp_path: Path
) -> None:
    other = Engine()
    other.report["modules"] = {"model.py": "b" * 64}
    first = ran(tmp_path / "b", other)
    assert "prior" not in first.provenance
    assert story.race(first)[0][0] != "prior"
    found = ran(tmp_path / "c", prior=[before, tmp_path / "b" / "run"])
    assert [p["same_workload"] for p in found.provenance["prior"]] == [True, False]
    assert "another workload" in story.race(found)[0][1]


def test_a_resume_needs_the_folder_no_more_and_refuses_another(before: Path, tmp_path: Path) -> None:
    shutil.copytree(before, tmp_path / "old")
    engine = Engine()
    engine.before = stop_after(1)
    with pytest.raises(KeyboardInterrupt):
        go(job(tmp_path, budget=BUDGET, prior=[tmp_path / "old"]), engine)
    with pytest.raises(RunError, match="cannot become a prior") as caught:
        go(job(tmp_path, budget=BUDGET, resume=True, prior=[before]))
    assert str(before) in caught.value.message
    shutil.rmtree(tmp_path / "old")
    found = ran(tmp_path, resume=True, prior=[tmp_path / "old"])
    assert found.provenance["prior"][0]["run"] == str(tmp_path / "old")
    again = ran(tmp_path, resume=True)
    assert again.provenance["prior"] == found.provenance["prior"]


def test_a_run_that_began_without_a_prior_takes_none_when_it_is_resumed(before: Path) -> None:
    with pytest.raises(RunError, match="begun without any"):
        refuse_others([before], replay(before))
    refuse_others([], replay(before))


def test_a_prior_that_is_none_is_told_before_anything_is_made_or_moved(tmp_path: Path) -> None:
    ran(tmp_path)
    with pytest.raises(RunError, match="holds no run"):
        go(job(tmp_path, budget=BUDGET, prior=[tmp_path / "nowhere"]))
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_dry_run_says_whether_a_prior_fits(before: Path, tmp_path: Path) -> None:
    engine = Engine()
    engine.report["settings"] = report().settings.model_copy(update={"metric": ("accuracy", "max")})
    with pytest.raises(UsageError, match="accuracy"):
        go(job(tmp_path, dry_run=True, prior=[before]), engine)
    assert list(tmp_path.iterdir()) == []


def test_events_of_before_there_were_priors_still_load(before: Path) -> None:
    assert not any(isinstance(e, PriorTaken) for e in replay(before))
    assert all(json.loads(line)["kind"] for line in (before / "events.jsonl").read_text().splitlines())
