"""`autoopt profile` as a user runs it: real processes on a small model, ended in every way.

Nothing is asserted about absolute times. The model trains in a moment, so a run that is left alone ends by
itself long before its budget, however busy the machine is.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autoopt.cli.main import run as run_here
from autoopt.journal import replay
from autoopt.records import (
    BASELINE,
    Event,
    Noted,
    Outcome,
    PlanMade,
    Recommendation,
    RunEnded,
    RunResumed,
    TrialFinished,
    TrialResult,
    TrialStarted,
)
from tests.once import once
from tests.polling import looks

ROOT = Path(__file__).parents[2]
FAULTY = ROOT / "tests" / "fixtures" / "foreign" / "faulty"
STEPS = 40
MODEL = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

STEPS = 40

def build_model():
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))

def _data(seed, n):
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, x[:, :1] * x[:, 1:2] + x[:, 2:3])

def train_dataloader():
    return DataLoader(_data(0, 256), batch_size=16, shuffle=True)

def val_dataloader():
    return DataLoader(_data(1, 64), batch_size=32)

def loss(model, batch):
    x, y = batch
    print("noise of the user's")
    return (model(x) - y).square().mean()
"""
PATIENCE = 120.0
"""Seconds after which a test that polls gives up."""


def one_core() -> None:
    """In the child: one core, hence one worker with one thread. Each test process takes another core."""
    cores = sorted(os.sched_getaffinity(0))
    number = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)
    os.sched_setaffinity(0, {cores[number % len(cores)]})


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`autoopt` with these arguments."""
    return run_process([sys.executable, "-m", "autoopt.cli.main", *arguments], folder)


def run_process(command: list[str], folder: Path) -> subprocess.Popen[str]:
    """A process in a session of its own, as a terminal starts it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=one_core,
        start_new_session=True,
    )


@dataclass(frozen=True)
class Ended:
    """What became of a process."""

    code: int
    out: str
    err: str


def end(process: subprocess.Popen[str]) -> Ended:
    """Waits for the end."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return Ended(process.returncode, out, err)


def profile(folder: Path, *arguments: str) -> list[str]:
    """The arguments of a run that goes on for a while."""
    return ["profile", "model.py", "--out", "run", "--device", "cpu", "--budget", "90s", *arguments]


def write_model(folder: Path) -> Path:
    path = folder / "model.py"
    path.write_text(MODEL)
    return path


def events(folder: Path) -> list[Event]:
    """What is on the disk now; nothing while there is no whole event."""
    return replay(folder / "run") if (folder / "run" / "events.jsonl").exists() else []


def started(folder: Path) -> list[TrialStarted]:
    return [e for e in events(folder) if isinstance(e, TrialStarted)]


def results(folder: Path) -> list[TrialResult]:
    return [e.result for e in events(folder) if isinstance(e, TrialFinished)]


def identity(result: TrialResult) -> tuple[Any, ...]:
    s = result.spec
    return s.optimizer, tuple(sorted(s.hyper.items())), s.steps, s.seed


def until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Polls while the process lives."""
    for _ in looks(PATIENCE, first=0.05):
        if condition():
            return
        assert process.poll() is None, process.communicate()
    raise AssertionError("it did not come true")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path)
    return tmp_path


@pytest.fixture
def launch() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes that do not outlive the test."""
    processes: list[subprocess.Popen[str]] = []

    def go(folder: Path, *arguments: str) -> subprocess.Popen[str]:
        processes.append(start(folder, *arguments))
        return processes[-1]

    yield go
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


Launch = Callable[..., subprocess.Popen[str]]

# --- a run that is left alone -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def whole(commons: Path) -> tuple[Path, Ended]:
    """One run for all tests that read what it left."""
    folder = commons / "whole"

    def make() -> Ended:
        folder.mkdir(exist_ok=True)
        write_model(folder)
        return end(start(folder, *profile(folder, "--json", "--optimizers", "adamw,sgd")))

    return folder, once(commons, "whole", make)


def test_a_run_leaves_four_files_and_a_zero(whole: tuple[Path, Ended]) -> None:
    folder, ended = whole
    assert ended.code == 0, ended.err
    names = {path.name for path in (folder / "run").iterdir() if not path.name.startswith(".")}
    assert names == {"recommendation.yaml", "train.py", "report.html", "events.jsonl", "logs"}


def test_json_is_one_object_and_what_the_yaml_holds(whole: tuple[Path, Ended]) -> None:
    folder, ended = whole
    found = json.loads(ended.out)
    assert found.pop("folder") == "run"
    assert found["schema"] == "autoopt/1"
    assert Recommendation.model_validate(found) == Recommendation.load(folder / "run")
    assert "NaN" not in ended.out
    assert "noise of the user's" not in ended.out + ended.err
    assert any("noise of the user's" in log.read_text() for log in (folder / "run" / "logs").iterdir())


def test_the_recommendation_holds_all_that_was_asked_for(whole: tuple[Path, Ended]) -> None:
    folder, _ = whole
    rec = Recommendation.load(folder / "run")
    assert rec.complete
    assert rec.recommendation.tuned
    assert rec.recommendation.optimizer in ("adamw", "sgd", BASELINE)
    assert rec.recommendation.steps == rec.settings.steps == STEPS
    assert rec.settings.origins["steps"] == "file"
    assert str(rec.recommendation.effective_batch) == "16 samples"
    assert rec.expected.loss is not None
    assert rec.expected.low is not None
    assert rec.expected.high is not None
    assert rec.expected.low <= rec.expected.loss <= rec.expected.high
    assert rec.expected.loss < rec.workload.initial_loss
    assert rec.against_yours.yours is not None
    assert rec.against_yours.paired
    assert {row.optimizer for row in rec.optimizers} == {"adamw", "sgd", BASELINE}
    assert rec.workload.modules, "the digest of the user's file"
    assert {"autoopt", "python", "machine", "seeds", "trials"} <= set(rec.provenance)
    assert {"import", "build", "data", "compile", "train", "evaluate", "idle", "wall"} <= set(rec.ledger)
    assert 0 < rec.ledger["wall"] < 90


def test_every_trial_that_started_ended_and_none_started_after_the_deadline(
    whole: tuple[Path, Ended],
) -> None:
    folder, _ = whole
    seen = events(folder)
    (plan,) = [e.plan for e in seen if isinstance(e, PlanMade)]
    assert {e.spec.id for e in started(folder)} == {r.spec.id for r in results(folder)}
    assert all(e.at - seen[0].at < plan.budget_seconds for e in started(folder))
    (last,) = [e for e in seen if isinstance(e, RunEnded)]
    assert seen[-1] == last
    assert last.how == "finished"


def test_trials_are_paired_and_none_is_run_twice(whole: tuple[Path, Ended]) -> None:
    folder, _ = whole
    done = results(folder)
    assert len({identity(r) for r in done}) == len(done) > 10
    for seed in {r.spec.seed for r in done}:
        mine = [r.digests for r in done if r.spec.seed == seed]
        longest = max(mine, key=len)
        assert all(digests == longest[: len(digests)] for digests in mine), "as far as each went"


def test_the_page_needs_nothing_from_outside(whole: tuple[Path, Ended]) -> None:
    page = (whole[0] / "run" / "report.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    loaded = re.findall(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)\s*=\s*[\"']?([^\"'\s>]+)", page)
    assert [link for link in loaded if not link.startswith("data:")] == []
    assert "@import" not in page


def test_the_script_trains_to_the_loss_of_the_trial(whole: tuple[Path, Ended]) -> None:
    folder, _ = whole
    rec = Recommendation.load(folder / "run")
    trials = [
        r
        for r in results(folder)
        if r.spec.optimizer == rec.recommendation.optimizer
        and r.spec.hyper == (rec.recommendation.hyper if r.spec.optimizer != BASELINE else {})
        and r.spec.steps == STEPS
        and r.spec.eval_batches is None
    ]
    trial = trials[-1]
    command = [sys.executable, "run/train.py", "--json", "--device", "cpu", "--seed", str(trial.spec.seed)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["steps"] == STEPS
    assert last["seconds"] > 0
    assert last["val_loss"] == pytest.approx(trial.loss, rel=1e-4)


def test_a_dry_run_shows_the_plan_and_touches_nothing(
    whole: tuple[Path, Ended], folder: Path, launch: Launch
) -> None:
    """It starts no trial, writes no recommendation and leaves an earlier run where it is."""
    old = folder / "run"
    old.mkdir()
    for name in ("events.jsonl", "recommendation.yaml"):
        (old / name).write_bytes((whole[0] / "run" / name).read_bytes())
    ended = end(launch(folder, *profile(folder, "--dry-run", "--json")))
    assert ended.code == 0, ended.err
    plan = json.loads(ended.out)
    assert plan["budget_seconds"] == 90
    assert [stage["name"] for stage in plan["stages"]] == ["race", "confirm"]
    for name in ("events.jsonl", "recommendation.yaml"):
        assert (old / name).read_bytes() == (whole[0] / "run" / name).read_bytes()
    assert not (folder / "run.1").exists()


# --- a run that is stopped ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_one_signal_ends_with_the_best_so_far(
    folder: Path,
    launch: Launch,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = launch(folder, *profile(folder, "--quiet"))
    until(process, lambda: len(results(folder)) >= 5)
    if number is signal.SIGINT:
        monkeypatch.chdir(folder)
        for more in ([], ["--resume"]):
            code, first, _ = told(capsys, profile(folder, "--quiet", *more))
            assert code == 4
            assert "in use" in first, "nobody else gets the folder meanwhile"
        os.killpg(process.pid, number)  # as a terminal does: to the whole group
    else:
        process.send_signal(number)
    ended = end(process)
    assert ended.code == 130, ended.err
    assert "Traceback" not in ended.err
    rec = Recommendation.load(folder / "run")
    assert not rec.complete
    assert rec.recommendation.tuned
    assert "the run was stopped early" in rec.confidence.reasons
    assert (folder / "run" / "train.py").exists()
    assert (folder / "run" / "report.html").exists()
    last = events(folder)[-1]
    assert isinstance(last, RunEnded)
    assert last.how == "interrupted"
    assert {e.spec.id for e in started(folder)} == {r.spec.id for r in results(folder)}
    assert all(r.outcome in (Outcome.COMPLETED, Outcome.DIVERGED, Outcome.CANCELLED) for r in results(folder))


@pytest.fixture
def killed(commons: Path, folder: Path) -> tuple[str, ...]:
    """A run that was killed after some trials, in `folder`; the arguments that it was started with."""
    # Three starts of a process on a busy machine are within this budget; the run ends by itself long before.
    arguments = (*profile(folder, "--optimizers", "adamw", "--quiet"), "--budget", "300s")

    def make() -> None:
        process = start(folder, *arguments)
        until(process, lambda: len(results(folder)) >= 6)
        process.kill()
        end(process)
        shutil.copytree(folder / "run", commons / "killed")

    once(commons, "killed", make)
    shutil.copytree(commons / "killed", folder / "run", dirs_exist_ok=True)
    return arguments


@pytest.mark.long(seconds=25)
def test_kill_9_loses_only_trials_in_flight_and_resume_goes_on(
    folder: Path, launch: Launch, killed: tuple[str, ...]
) -> None:
    arguments, before = killed, results(folder)
    with (folder / "run" / "events.jsonl").open("ab") as stream:
        stream.write(b'{"kind": "trial_fini')

    # Other code is refused, without a trial and without harm.
    model = folder / "model.py"
    model.write_text(MODEL.replace("nn.Tanh()", "nn.ReLU()"))
    refused = end(launch(folder, *arguments, "--resume"))
    assert refused.code == 4, refused.err
    assert "model.py was edited" in refused.err
    assert "--accept-changes" in refused.err
    assert results(folder) == before
    model.write_text(MODEL)

    ended = end(launch(folder, *arguments, "--resume"))
    assert ended.code == 0, ended.err
    assert Recommendation.load(folder / "run").complete
    done = results(folder)
    assert done[: len(before)] == before
    assert len(done) > len(before)
    completed = [identity(r) for r in done if r.outcome is not Outcome.CANCELLED]
    assert len(set(completed)) == len(completed)
    first, last = [e for e in events(folder) if isinstance(e, RunResumed)]
    assert first.dropped_bytes == len('{"kind": "trial_fini')
    assert last.dropped_bytes == 0
    assert last.spent_seconds > first.spent_seconds > 0
    plans = [e.plan for e in events(folder) if isinstance(e, PlanMade)]
    assert plans[0].stages == plans[-1].stages, "the plan of the first sitting holds"


@pytest.mark.long(seconds=15)
def test_a_run_that_was_killed_when_its_budget_was_spent_gives_its_result(
    folder: Path, launch: Launch, killed: tuple[str, ...]
) -> None:
    arguments, before = killed, results(folder)
    late = Noted(at=time.time() + 1000.0, text="the budget of 300 s is long over")
    with (folder / "run" / "events.jsonl").open("a") as stream:
        stream.write(late.model_dump_json() + "\n")
    ended = end(launch(folder, *arguments, "--resume"))
    assert ended.code == 0, ended.err
    assert Recommendation.load(folder / "run").recommendation.optimizer == "adamw"
    assert results(folder) == before


@pytest.mark.long
def test_a_budget_for_no_trial_hands_on_what_there_is_untuned(folder: Path, launch: Launch) -> None:
    """The real run is so long that even the shortest trial is too long."""
    arguments = ("--device", "cpu", "--budget", "90s", "--steps", "1000000000", "--json")
    ended = end(launch(folder, "profile", "model.py", *arguments))
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["recommendation"]["tuned"] is False
    assert found["reason"].startswith("Not tuned")
    assert found["confidence"]["label"] == "low"
    assert found["settings"]["origins"]["steps"] == "flag"
    assert found["folder"] == str(Path("autoopt-out") / "model")
    left = {path.name for path in (folder / "autoopt-out" / "model").iterdir()}
    assert {"recommendation.yaml", "train.py", "report.html", "events.jsonl"} <= left


# --- errors -------------------------------------------------------------------------------------------------


def told(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str, str]:
    """Exit code, first line and the rest of what a command in this process says on stderr."""
    code = run_here(arguments)
    out, err = capsys.readouterr()
    assert out == ""
    first, _, rest = err.partition("\n")
    return code, first, rest


@pytest.mark.parametrize(
    ("arguments", "sentence", "way_out"),
    [
        (["--optimizers", "adamv"], "error: There is no optimizer 'adamv'.", "adamw"),
        (["--optimizers", ","], "error: No optimizer is named.", "--optimizers adamw,sgd"),
        (["--budget", "soon"], "error: 'soon' is not a duration.", "1h30m"),
        (["--budget", "60"], "error: A budget of '60' has no unit.", "90s"),
        (["--policy", "ballanced"], "error: There is no policy 'ballanced'.", "balanced"),
        (["--steps", "10", "--epochs", "2"], "error: --steps and --epochs say the same thing twice.", "one"),
        (
            ["--accumulate", "2", "--global-batch", "32"],
            "error: --accumulate and --global-batch say the same thing twice.",
            "one",
        ),
        (["--precision", "fp8"], "error: --precision fp8 cannot be used", "--help"),
        (["--device", "cuda:99"], "error: ", "--device"),
        (["--steps", "0"], "error: ", "--help"),
        (["--no-such-flag"], "error: ", "--help"),
    ],
)
def test_a_flag_that_cannot_be_used_is_one_sentence_and_a_way_out(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
    way_out: str,
) -> None:
    monkeypatch.chdir(folder)
    code, first, rest = told(capsys, ["profile", "model.py", "--quiet", *arguments])
    assert code == 2
    assert first.startswith(sentence)
    assert way_out in rest
    assert "Traceback" not in rest


def test_a_prior_that_is_no_run_is_named_and_nothing_is_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    code, first, rest = told(capsys, profile(folder, "--prior", "nowhere", "--quiet"))
    assert code == 4
    assert first == "error: nowhere holds no run, so it cannot be a prior."
    assert "events.jsonl" in rest
    assert not (folder / "run").exists()


def test_there_is_nothing_to_resume(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    code, first, rest = told(capsys, ["profile", "model.py", "--resume", "--quiet"])
    assert code == 4
    assert "no run to resume" in first
    assert "--resume" in rest


def test_a_resume_with_other_settings_is_refused(
    whole: tuple[Path, Ended],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "events.jsonl").write_bytes((whole[0] / "run" / "events.jsonl").read_bytes())
    monkeypatch.chdir(folder)
    code, _, rest = told(capsys, profile(folder, "--resume", "--seed", "7", "--quiet"))
    assert code == 4
    assert "seed: 0 -> 7" in rest
    assert "--accept-changes" in rest


def test_an_error_of_the_users_code_names_their_line(tmp_path: Path, launch: Launch) -> None:
    target = str(FAULTY / "raises_in_loss.py")
    ended = end(launch(tmp_path, "profile", target, "--budget", "60s", "--device", "cpu", "--out", "run"))
    assert ended.code == 3
    assert "raises_in_loss.py" in ended.err
    assert "line 16" in ended.err or "raises_in_loss.py:16" in ended.err
    assert "/autoopt/" not in ended.err.replace(str(ROOT / "tests"), ""), "our frames are hidden"
    last = events(tmp_path)[-1]
    assert isinstance(last, RunEnded)
    assert last.how == "failed"


@pytest.mark.long
def test_what_fails_in_every_trial_ends_early_with_the_reason(tmp_path: Path, launch: Launch) -> None:
    target = str(FAULTY / "raises_later.py")
    arguments = ("--budget", "90s", "--device", "cpu", "--out", "run", "--json", "--steps", "40")
    ended = end(launch(tmp_path, "profile", target, *arguments))
    assert ended.code == 5, ended.out + ended.err
    error = json.loads(ended.out)["error"]
    assert error["kind"] == "NoResult"
    assert "the sixth batch is cursed" in error["message"]
    assert {r.outcome for r in results(tmp_path)} - {Outcome.CANCELLED} == {Outcome.ERROR}
    assert not (tmp_path / "run" / "recommendation.yaml").exists()


@pytest.mark.long(seconds=12)
def test_the_budget_starts_with_the_command_not_with_the_shell_that_became_it(folder: Path) -> None:
    """`bash -c "a && b"` replaces itself by b, whose process is then as old as a."""
    words = " ".join(
        map(shlex.quote, [sys.executable, "-m", "autoopt.cli.main", *profile(folder, "--dry-run", "--json")])
    )
    begin = time.time()
    done = subprocess.run(
        ["bash", "-c", f"sleep 2; exec {words}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    plan = json.loads(done.stdout.splitlines()[-1])
    assert plan["begin_seconds"] < time.time() - begin - 1.5
