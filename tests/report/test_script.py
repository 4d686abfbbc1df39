"""The pasted lines run and build what `build` builds; the script is clean Python, whatever the names are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autoopt.errors import UsageError
from autoopt.records import Baseline, EffectiveBatch, Recommendation
from autoopt.report.script import next_choice, script
from tests.report import factory


def test_your_own_schedule_is_kept() -> None:
    baseline = Baseline(
        source="configure_optimizers",
        optimizer="SGD",
        registry_name="sgd",
        hyper={"lr": 0.1},
        schedule="StepLR",
    )
    rec = factory.recommendation(
        recommendation=factory.choice(schedule="yours"), workload=factory.workload(baseline=baseline)
    )
    assert "StepLR" in rec.snippet()
    assert "LambdaLR" not in rec.snippet()
    assert "yours.schedule(step / steps)" in script(rec, ".")


def variants() -> list[Recommendation]:
    hostile = "x\"\"\"\n\\u0041 ''' {{ 7 * 7 }}\nimport os"
    odd_baseline = Baseline(
        source="configure_optimizers",
        optimizer="SGD",
        registry_name=None,
        hyper={"lr": 0.1},
        schedule="StepLR",
    )
    return [
        factory.recommendation(),
        factory.keep(),
        factory.recommendation(
            recommendation=factory.choice(
                schedule="yours", class_="autoopt.optim.adan:Adan", optimizer="adan"
            ),
            workload=factory.workload(baseline=odd_baseline),
        ),
        factory.recommendation(
            recommendation=factory.choice(class_="prodigyopt:Prodigy", arguments={"lr": 1.0, "mode": "it's"}),
            name=hostile,
            workload=factory.workload(target="pkg.tasks:make"),
            provenance={"arguments": ["--width", hostile]},
            against_yours=factory.keep().against_yours.model_copy(update={"sentence": hostile}),
        ),
        factory.recommendation(
            recommendation=factory.choice(
                class_="autoopt.optim.adahessian:AdaHessian", optimizer="adahessian"
            )
        ),
        factory.recommendation(workload=factory.workload(kind="lightning")),
        factory.recommendation(
            workload=factory.workload(kind="lightning"),
            recommendation=factory.choice(
                class_="autoopt.optim.adahessian:AdaHessian", optimizer="adahessian"
            ),
        ),
        larger_batch(),
        larger_batch(schedule="yours"),
        factory.keep().model_copy(
            update={
                "recommendation": factory.keep().recommendation.model_copy(update={"effective_batch": SEEN})
            }
        ),
    ]


SEEN = EffectiveBatch(samples=128, samples_per_batch=64, accumulate=2)


def larger_batch(**changes: Any) -> Recommendation:
    """Twice the batch in half the steps; with `schedule="yours"` in a schedule of the user's own."""
    baseline = Baseline(
        source="configure_optimizers",
        optimizer="AdamW",
        registry_name="adamw",
        hyper={"lr": 1e-3},
        schedule="StepLR",
    )
    made = factory.choice(
        hyper={**factory.ADAMW, "batch": 2.0}, steps=750, warmup_steps=38, effective_batch=SEEN, **changes
    )
    return factory.recommendation(
        recommendation=made, workload=factory.workload(**({"baseline": baseline} if changes else {}))
    )


@pytest.mark.parametrize(
    "rec",
    variants(),
    ids=[
        "table",
        "yours",
        "own schedule",
        "hostile",
        "second order",
        "lightning",
        "lightning, second order",
        "larger batch",
        "larger batch in an own schedule",
        "the batch of yours",
    ],
)
def test_the_script_is_clean_python(rec: Recommendation, tmp_path: Path) -> None:
    text = script(rec, tmp_path)
    names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    assert {"TARGET", "STEPS", "ACCUMULATE"} <= names
    assert "49" not in text
    path = tmp_path / "train.py"
    path.write_text(text)
    root = Path(__file__).parents[2] / "pyproject.toml"
    tidy = "import os" not in str(rec.provenance)  # quotes in quotes can be escaped in more ways than one
    for command in (["check"], *([["format", "--check"]] if tidy else [])):
        run = [sys.executable, "-m", "ruff", *command, "--no-cache", "--config", str(root), str(path)]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_script_finds_the_file_from_where_it_lies(tmp_path: Path) -> None:
    target = tmp_path / "project" / "model.py"
    text = script(factory.recommendation(), tmp_path / "project" / "out" / "model", str(target))
    assert 'HERE / "../../model.py"' in text


def test_no_script_for_callables() -> None:
    with pytest.raises(UsageError, match="choose"):
        script(factory.recommendation(workload=factory.workload(kind="callables", target="")), ".")


def test_the_next_alternative_is_the_best_other_one() -> None:
    assert next_choice(factory.recommendation()).startswith("muon (lr=0.004")
    assert next_choice(factory.recommendation(optimizers=[])) == "half the learning rate"


def test_clipping_that_the_configuration_adds_is_in_both(tmp_path: Path) -> None:
    hyper = factory.choice().hyper | {"clip": 0.5}
    rec = factory.recommendation(recommendation=factory.choice(hyper=hyper))
    assert "clip_grad_norm_(model.parameters(), 0.5)" in rec.snippet()
    assert "CLIP: float | None = 0.5" in script(rec, tmp_path)
    ast.parse(rec.snippet())
    settings = factory.settings(clip=2.0)
    kept = factory.recommendation(settings=settings)
    assert "CLIP: float | None = 2.0" in script(kept, tmp_path)
    assert "clip_grad" not in kept.snippet(), "what is the user's own is there already"
    without = factory.recommendation(
        recommendation=factory.choice(hyper=hyper | {"clip": 0.0}), settings=settings
    )
    assert "CLIP: float | None = None" in script(without, tmp_path)
    assert "without clipping" in without.snippet()


def test_a_larger_batch_is_in_both(tmp_path: Path) -> None:
    rec = larger_batch()
    assert "# each step on 2 batches of yours" in rec.snippet()
    assert 'multiplier("cosine", step, 750, warmup_steps=38)' in rec.snippet()
    text = script(rec, tmp_path)
    for line in ("STEPS = 750", "ACCUMULATE = 2 ", "TIMES = 2.0 ", "SAMPLES = 128 "):
        assert f"\n{line}" in text
    assert "TIMES" not in script(factory.recommendation(), tmp_path)
    assert "SAMPLES" not in script(factory.recommendation(), tmp_path), "of a version that did not count them"
