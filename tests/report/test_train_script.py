"""The generated train.py: it repeats a trial, resumes exactly, stops at divergence and runs under torchrun."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from autoopt.optim import registry
from autoopt.options import applied
from autoopt.records import (
    BASELINE,
    Band,
    EffectiveBatch,
    Flags,
    Recommendation,
    Settings,
    TrialResult,
    TrialSpec,
)
from autoopt.report.script import script
from autoopt.schedule import warmup_steps
from autoopt.trials.execute import execute
from autoopt.workload import load
from tests.report import factory

ROOT = Path(__file__).parents[2]
STEPS = 20
MODEL = """
import torch
from torch import nn

STEPS = 20
{constants}

def build_model():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))

def _data(seed, n):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=generator)
    return torch.utils.data.TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long())

def train_dataloader():
    return torch.utils.data.DataLoader(_data(0, 80), batch_size=8, shuffle=True)

{val}

def loss(model, batch):
    x, y = batch
    return nn.functional.cross_entropy(model(x), y) * {scale}
{more}
"""
VAL = "def val_dataloader():\n    return torch.utils.data.DataLoader(_data(1, 32), batch_size=8)"
OWN = """
def configure_optimizers(model):
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.02}, {"params": model[4].parameters(), "lr": 0.1}], momentum=0.9
    )
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 7, 0.3)
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_model(
    folder: Path, *, constants: str = "", val: str = VAL, scale: str = "1.0", more: str = ""
) -> Path:
    path = folder / "model.py"
    path.write_text(MODEL.format(constants=constants, val=val, scale=scale, more=more))
    return path


def recommend(
    path: Path, optimizer: str, lr: float, batch: float | None = None
) -> tuple[Recommendation, TrialSpec]:
    """A recommendation for the file, and the trial that it comes from, at the real run's length."""
    workload = load(str(path), (), Flags())
    try:
        report = workload.report(quick=True)
    finally:
        workload.close()
    settings: Settings = report.settings
    if optimizer == BASELINE:
        hyper = {"lr": lr}
        class_, arguments = "torch.optim:SGD", {"lr": lr}
    else:
        known = registry.get(optimizer)
        hyper = {"lr": lr, "weight_decay": 0.1}
        class_, arguments = known.target, known.arguments(hyper)
    hyper |= {} if batch is None else {"batch": batch}
    taken = applied(hyper, settings)
    choice = factory.choice(
        optimizer=optimizer,
        class_=class_,
        arguments=arguments,
        hyper=hyper,
        groups=report.groups,
        schedule=settings.schedule,
        steps=taken.steps,
        warmup_steps=warmup_steps(settings.warmup, taken.steps),
        effective_batch=EffectiveBatch(
            samples=8 * taken.accumulate, samples_per_batch=8, accumulate=taken.accumulate
        ),
    )
    rec = factory.recommendation(recommendation=choice, settings=settings, workload=report)
    return rec, TrialSpec(id=0, stage="confirm", optimizer=optimizer, hyper=hyper, steps=STEPS, seed=3)


def trial(path: Path, spec: TrialSpec) -> TrialResult:
    workload = load(str(path), (), Flags())
    try:
        *_, result = execute(workload, spec)
    finally:
        workload.close()
    assert isinstance(result, TrialResult)
    return result


def write_script(rec: Recommendation, model: Path) -> Path:
    folder = model.parent / "out"
    folder.mkdir(exist_ok=True)
    path = folder / "train.py"
    path.write_text(script(rec, folder, str(model)))
    return path


def run(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *flags: str
) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON object of the last line, and stderr; in this process, which has torch loaded."""
    monkeypatch.setattr(sys, "argv", [str(path), "--json", "--device", "cpu", "--seed", "3", *flags])
    spec = importlib.util.spec_from_file_location("generated_train", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    code = module.main()
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]), err


CASES = {
    "adamw": ("adamw", 0.01, {}),
    "accumulate and clip": ("sgd", 0.3, {"constants": "ACCUMULATE = 3\nCLIP = 0.1"}),
    "bf16": ("adamw", 0.01, {"constants": 'PRECISION = "bf16"\nSCHEDULE = "wsd"'}),
    "second order": ("adahessian", 0.1, {"constants": "ACCUMULATE = 2\nCLIP = 0.5"}),
    "own generator": ("adan", 0.01, {"constants": 'SCHEDULE = "linear"'}),
    "own groups and schedule": ("adamw", 0.01, {"more": OWN}),
    "yours": (BASELINE, 0.05, {"more": OWN}),
    "default": (BASELINE, 0.001, {}),
    "prequential": (
        "adamw",
        0.01,
        {"val": "_loader = train_dataloader\ndef train_dataloader():\n    yield from _loader()"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_script_repeats_the_trial(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    optimizer, lr, options = CASES[case]
    model = write_model(tmp_path, **options)
    rec, spec = recommend(model, optimizer, lr)
    expected = trial(model, spec)
    code, outcome, _ = run(write_script(rec, model), monkeypatch, capsys)
    assert code == 0
    assert outcome["steps"] == STEPS
    assert outcome["seconds"] > 0
    assert outcome["optimizer"] == optimizer
    assert outcome["val_loss"] == expected.loss


@pytest.mark.parametrize(
    ("batch", "options"),
    [
        (2.0, {"constants": "ACCUMULATE = 3\nWARMUP = 12"}),  # steps of a run that is longer than this one
        (0.5, {"constants": "GLOBAL_BATCH = 32"}),
        (4.0, {"more": OWN}),
    ],
)
def test_with_another_batch_it_takes_the_steps_of_that_one(
    batch: float,
    options: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = write_model(tmp_path, **options)
    rec, spec = recommend(model, "adamw", 0.01, batch)
    expected = trial(model, spec)
    code, outcome, err = run(write_script(rec, model), monkeypatch, capsys)
    assert code == 0
    assert outcome["steps"] == expected.steps_done == STEPS / batch
    assert outcome["val_loss"] == expected.loss
    assert "warning" not in err


def test_another_batch_than_the_one_that_was_profiled_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path)
    rec, _ = recommend(model, "adamw", 0.01)
    path = write_script(rec, model)
    model.write_text(model.read_text().replace("_data(0, 80), batch_size=8", "_data(0, 80), batch_size=32"))
    code, _, err = run(path, monkeypatch, capsys)
    assert code == 0
    (warning,) = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert "sees 32 samples, and the learning rate 0.01 was chosen for 8" in warning
    assert "begin with is 0.02 (with the square root" in warning


def test_schedule_free_is_evaluated_with_its_own_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("schedulefree")
    model = write_model(tmp_path, constants='SCHEDULE = "constant"')
    rec, spec = recommend(model, "schedule_free_adamw", 0.01)
    _, outcome, _ = run(write_script(rec, model), monkeypatch, capsys)
    # Not equal: evaluations on the way switch the weights there and back, which rounds.
    assert outcome["val_loss"] == pytest.approx(trial(model, spec).loss, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "adahessian"])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path)
    rec, _ = recommend(model, optimizer, 0.01)
    path = write_script(rec, model)
    _, whole, _ = run(path, monkeypatch, capsys)
    # The same run, stopped by the user's own code in the middle: what the last checkpoint holds must be enough.
    text = model.read_text()
    model.write_text(
        text + "\ndef after_step(model, ctx):\n    if ctx.step == 13:\n        raise KeyboardInterrupt\n"
    )
    with pytest.raises(KeyboardInterrupt):
        run(path, monkeypatch, capsys, "--checkpoint", str(tmp_path / "c.pt"))
    model.write_text(text)
    capsys.readouterr()
    _, resumed, err = run(path, monkeypatch, capsys, "--checkpoint", str(tmp_path / "c.pt"), "--resume")
    assert "step 12/20" not in err
    assert "step 14/20" in err
    assert resumed["val_loss"] == whole["val_loss"]
    with pytest.raises(SystemExit, match="steps"):
        run(path, monkeypatch, capsys, "--checkpoint", str(tmp_path / "c.pt"), "--resume", "--steps", "30")
    with pytest.raises(SystemExit, match="no checkpoint"):
        run(path, monkeypatch, capsys, "--checkpoint", str(tmp_path / "none.pt"), "--resume")


PROMISE = [
    Band(of="training loss", share=0.1, begin=0, step=2, low=0.0, high=9.0),
    Band(of="training loss", share=0.4, begin=5, step=8, low=0.0, high=0.01),
    Band(of="validation loss", share=1.0, begin=18, step=20, low=8.0, high=9.0),
]


def test_the_script_watches_its_own_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path)
    rec, spec = recommend(model, "adamw", 0.01)
    path = write_script(rec.model_copy(update={"promise": PROMISE}), model)
    code, outcome, whole = run(path, monkeypatch, capsys, "--checkpoint", str(tmp_path / "c.pt"))
    assert (code, outcome["val_loss"]) == (0, trial(model, spec).loss)
    lines = [line for line in whole.splitlines() if "expected" in line]
    assert "at 10 % of the run: inside" in lines[0]
    assert "at 40 % of the run: above" in lines[1]
    assert "half the learning rate" in lines[1]
    assert lines[2].startswith("validation loss")
    assert "below" in lines[2]
    # Stopped after a window's first steps, it judges the whole window after the resume.
    text = model.read_text()
    stop = "\ndef after_step(model, ctx):\n    if ctx.step == 7:\n        raise KeyboardInterrupt\n"
    model.write_text(text + stop)
    with pytest.raises(KeyboardInterrupt):
        run(path, monkeypatch, capsys, "--checkpoint", str(tmp_path / "c.pt"))
    model.write_text(text)
    capsys.readouterr()
    _, _, err = run(path, monkeypatch, capsys, "--checkpoint", str(tmp_path / "c.pt"), "--resume")
    assert [line for line in err.splitlines() if "expected" in line] == lines[1:]
    # A run of another length was promised nothing.
    _, _, err = run(path, monkeypatch, capsys, "--checkpoint", str(tmp_path / "d.pt"), "--steps", "30")
    assert "expected" not in err


def test_divergence_stops_and_names_what_is_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path)
    rec, _ = recommend(model, "sgd", 0.1)
    path = write_script(rec, model)
    model.write_text(model.read_text().replace("* 1.0", "/ 0.0"))
    code, outcome, err = run(path, monkeypatch, capsys)
    assert code == 5
    assert outcome["val_loss"] is None
    assert outcome["diverged"] is True
    assert outcome["steps"] == 1
    assert "muon" in outcome["next"]
    assert "muon" in err


@pytest.mark.long
def test_two_processes_are_one_run_with_their_batches_shared_out(tmp_path: Path) -> None:
    model = write_model(tmp_path, constants="ACCUMULATE = 2")
    model.write_text(model.read_text().replace("nn.BatchNorm1d(8), ", "").replace("nn.Dropout(0.2), ", ""))
    rec, spec = recommend(model, "adamw", 0.01)
    path = write_script(rec, model)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(path),
    ]
    done = subprocess.run(
        [*launch, "--json", "--device", "cpu", "--seed", "3"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["val_loss"] == pytest.approx(trial(model, spec).loss, rel=1e-4)
    assert done.stderr.count("step 20/20") == 1
