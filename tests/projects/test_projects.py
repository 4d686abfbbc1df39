"""Projects as people write them, each entered by the few lines of its `tune.py`."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from autoopt.errors import WorkloadError
from autoopt.records import Recommendation, WorkloadReport
from autoopt.workload import load

# People leave files open.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DIGITS = str(ROOT / "examples" / "data" / "digits.csv.gz")
FLIGHTS = str(ROOT / "examples" / "data" / "flights.csv.gz")

PROJECTS = {
    "nanogpt": ("tune.py", ["config/train_stdlib_char.py"]),
    "resnet": (
        "tune.py",
        ["--data-path", DIGITS, "--epochs", "3", "--norm-weight-decay", "0", "--model-ema"],
    ),
    "recommender": ("recommender.tune:Task", ["--data", FLIGHTS]),
    "timm_digits": ("tune.py", [DIGITS, "--epochs", "3"]),
    # Nothing is added to this one: its main is stopped where it calls `trainer.fit`.
    "hydra_template": ("src.train:main", [f"data_dir={Path(DIGITS).parent}", "trainer.max_epochs=3"]),
    "run_clm": (
        "tune.py:make_trainer",
        ["--train_file", "run_clm.py", "--output_dir", "trained", "--max_steps", "60", "--use_cpu"],
    ),
}
NEEDS = {"timm_digits": "timm"}

Enter = Callable[[str], tuple[str, list[str]]]


@pytest.fixture
def enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Enter:
    """Copies a project, goes to where its users start it, and gives target and arguments."""

    def enter_(name: str) -> tuple[str, list[str]]:
        if name in NEEDS:
            try:
                importlib.import_module(NEEDS[name])
            except Exception as error:  # torchvision of another build than torch does not even import
                pytest.skip(f"{NEEDS[name]} cannot be imported: {error}")
        target, arguments = PROJECTS[name]
        shutil.copytree(HERE / name, tmp_path / name)
        monkeypatch.chdir(tmp_path if target.startswith(name) else tmp_path / name)
        if name == "nanogpt":
            subprocess.run([sys.executable, "data/stdlib_char/prepare.py"], check=True)
        torch.set_num_threads(1)
        return target, arguments

    return enter_


def check(target: str, arguments: list[str]) -> WorkloadReport:
    workload = load(target, arguments)
    try:
        return workload.report(quick=True)
    finally:
        workload.close()


def test_nanogpt_gives_a_batch_at_each_call(enter: Enter) -> None:
    report = check(*enter("nanogpt"))
    assert report.batch == "tuple(int64[8, 32], int64[8, 32])"
    assert any("one batch at each call" in note for note in report.warnings)
    assert report.tokens_per_batch == 8 * 32
    assert report.reproducible_data
    assert (report.settings.steps, report.settings.clip) == (300, 1.0)
    assert report.baseline.registry_name == "adamw"


def test_the_script_of_nanogpt_is_refused_before_it_has_trained(enter: Enter) -> None:
    _, arguments = enter("nanogpt")
    with pytest.raises(
        WorkloadError, match=r"train\.py trains while it is imported: train\.py:\d+ takes"
    ) as caught:
        load("train.py", arguments)
    assert "autoopt.choose" in caught.value.hint


def test_a_resnet_script_brings_its_data_groups_schedule_and_average(enter: Enter) -> None:
    report = check(*enter("resnet"))
    assert report.settings.metric == ("acc1", "max")
    assert report.settings.steps == 3 * 18
    assert report.baseline.schedule == "SequentialLR"
    assert [g.decay_scale for g in report.groups if g.parameters < 400] == [
        0.0
    ]  # the norms, as the script has it
    assert report.restore == "in_place"


def test_a_recommender_with_sparse_embeddings_has_its_own_measure(enter: Enter) -> None:
    report = check(*enter("recommender"))
    assert report.settings.metric == ("recall@5", "max")
    assert report.validation == "prequential"
    assert "sparse" in report.unavailable["adamw"]
    assert not {"sgd", "adagrad"} & report.unavailable.keys()
    assert any("nothing to compare with" in note for note in report.warnings)


def test_timm_s_model_mixup_and_optimizer(enter: Enter) -> None:
    report = check(*enter("timm_digits"))
    assert report.baseline.registry_name == "adamw"
    assert report.reproducible_data  # Mixup draws from numpy
    assert len({g.decay_scale for g in report.groups}) == 2


def test_a_lightning_hydra_template_is_entered_as_it_is(enter: Enter) -> None:
    report = check(*enter("hydra_template"))
    assert report.kind == "lightning"
    assert report.settings.steps == 3 * 24
    assert (report.baseline.optimizer, report.baseline.schedule) == ("Adam", "ReduceLROnPlateau")


def test_run_clm_hands_over_its_trainer(enter: Enter) -> None:
    report = check(*enter("run_clm"))
    assert report.settings.steps == 60
    assert report.tokens_per_batch == 8 * 32
    assert report.baseline.registry_name == "adamw"


@pytest.mark.long(seconds=40)
@pytest.mark.parametrize("name", PROJECTS)
def test_a_profile_and_its_script(name: str, enter: Enter) -> None:
    target, arguments = enter(name)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [
        sys.executable,
        "-m",
        "autoopt",
        "profile",
        target,
        "--budget",
        "60s",
        "--out",
        "out",
        "--device",
        "cpu",
    ]
    command += ["--steps", "40", "--optimizers", "adagrad,sgd" if name == "recommender" else "adamw,sgd,lion"]
    done = subprocess.run([*command, "--", *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    recommendation = Recommendation.load("out/recommendation.yaml")
    assert recommendation.recommendation.steps == 40
    trained = subprocess.run(
        [sys.executable, "out/train.py", "--json"], env=environment, capture_output=True, text=True
    )
    assert trained.returncode == 0, trained.stderr
    outcome = json.loads(trained.stdout.splitlines()[-1])
    expected = recommendation.expected.metric
    if expected is None:
        assert outcome["val_loss"] < recommendation.workload.initial_loss
    else:  # the average of the weights is what is measured, whatever the loss of the weights themselves
        assert outcome["metric"] > expected / 2
    assert (outcome["metric"] is not None) == (recommendation.settings.metric is not None)
