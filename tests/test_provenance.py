from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from autoopt import __version__
from autoopt.provenance import gather, ledger
from autoopt.records import Flags, Outcome, TrialResult
from autoopt.trials.testing import fake_report, spec


def result(number: int, seed: int = 0, **seconds: float) -> TrialResult:
    trial = spec(number, "adamw").model_copy(update={"seed": seed})
    return TrialResult(spec=trial, outcome=Outcome.COMPLETED, loss=1.0, seconds=seconds)


def commit(folder: Path) -> str:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    return git("rev-parse", "HEAD")


def test_what_repeats_a_run_is_gathered(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("")
    found = gather(
        str(tmp_path / "model.py"), 3, [result(1, 3), result(2, 1003), result(3, 3)], {"budget_seconds": 60.0}
    )
    assert found["autoopt"] == __version__
    assert (found["seed"], found["seeds"], found["trials"]) == (3, [3, 1003], 3)
    assert found["budget_seconds"] == 60.0
    assert found["machine"]
    assert found["git"] is None, "a folder outside of any checkout"


def test_the_commit_is_named_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    model = tmp_path / "model.py"
    model.write_text("STEPS = 1\n")
    made = commit(tmp_path)
    assert gather(str(model), 0, [], {})["git"] == made
    (tmp_path / "notes.txt").write_text("not tracked, so no change of the code")
    assert gather(str(model), 0, [], {})["git"] == made
    model.write_text("STEPS = 2\n")
    assert gather(str(model), 0, [], {})["git"] == f"{made}+changes"


def test_a_module_has_no_folder_to_ask() -> None:
    assert gather("package.module:function", 0, [], {})["git"] is None


def test_the_ledger_adds_up_to_what_the_workers_had() -> None:
    report = fake_report("fake", Flags()).model_copy(
        update={"seconds": {"import": 1.0, "calibrate": 0.5, "first_step": 0.2}}
    )
    trials = [
        result(1, build=0.1, data=0.2, train=3.0, evaluate=0.5, total=3.8),
        result(2, build=0.1, data=0.1, train=2.0, evaluate=0.5, total=2.7),
    ]
    spent = ledger(report, trials, workers=2, wall=10.0, begin=2.0)
    assert spent["wall"] == 10.0
    assert spent["train"] == pytest.approx(5.0)
    assert spent["evaluate"] == pytest.approx(1.0)
    assert spent["calibrate"] == pytest.approx(1.0)
    assert sum(v for k, v in spent.items() if k != "wall") == pytest.approx(2 * 10.0)
    assert spent["import"] + spent["calibrate"] == pytest.approx(2 * 2.0), "all before the first trial"


def test_no_negative_time() -> None:
    """More measured than elapsed (clocks of several processes) leaves nothing idle."""
    spent = ledger(fake_report("fake", Flags()), [result(1, train=50.0)], workers=1, wall=10.0, begin=0.0)
    assert spent["idle"] == 0.0
    assert min(spent.values()) >= 0.0
