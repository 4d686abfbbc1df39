"""What a snippet says beside its code: what stays the user's own, and what its kind of project cannot express."""

from __future__ import annotations

import ast
import tomllib

import pytest
import yaml

from autoopt.errors import UsageError
from autoopt.records import Baseline, Recommendation
from autoopt.report.snippets import KINDS, snippet
from tests.report import factory
from tests.report.snippets.steps import OPTIMIZERS, recommend


def own_schedule() -> Recommendation:
    baseline = Baseline(
        source="configure_optimizers",
        optimizer="SGD",
        registry_name="sgd",
        hyper={"lr": 0.1},
        schedule="StepLR",
    )
    return factory.recommendation(
        recommendation=factory.choice(schedule="yours"), workload=factory.workload(baseline=baseline)
    )


def default() -> Recommendation:
    baseline = Baseline(
        source="default", optimizer="AdamW", registry_name="adamw", hyper={"lr": 1e-3}, schedule=None
    )
    return factory.keep().model_copy(update={"workload": factory.workload(baseline=baseline)})


ALL = {name: recommend(name) for name in OPTIMIZERS} | {
    "keep": factory.keep(),
    "own schedule": own_schedule(),
    "default": default(),
    "wsd": factory.recommendation(recommendation=factory.choice(schedule="wsd")),
    "fp16": factory.recommendation(settings=factory.settings(precision="fp16", clip=None, accumulate=4)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ALL)
def test_every_kind_is_valid_and_says_in_comments_what_it_says_in_words(case: str, kind: str) -> None:
    made = snippet(ALL[case], kind)
    parse = {"python": ast.parse, "yaml": yaml.safe_load, "toml": tomllib.loads}[made.language]
    parse(made.text)
    said = " ".join(line.lstrip("# ") for line in made.text.splitlines() if line.startswith("#"))
    assert made.kind == kind
    assert all(sentence in said for sentence in made.differences)
    assert made.text.endswith("\n")
    assert "  \n" not in made.text


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_the_users_own_stays(kind: str) -> None:
    text = " ".join(snippet(own_schedule(), kind).text.split())
    assert "LambdaLR" not in text
    assert "your own" in text
    assert (
        "own" in snippet(factory.keep(), kind).text or "keep the AdamW" in snippet(factory.keep(), kind).text
    )


def test_clipping_that_a_framework_adds_by_itself_is_switched_off() -> None:
    """The Trainer of transformers clips to 1.0 unless told otherwise; torchtitan too."""
    rec = ALL["fp16"]
    assert "max_grad_norm=0.0" in rec.snippet("transformers")
    assert "fp16=True" in rec.snippet("transformers")
    assert tomllib.loads(rec.snippet("torchtitan"))["training"]["max_norm"] == float("inf")
    assert "gradient_clip_val=None" in rec.snippet("lightning")
    assert 'precision="16-mixed"' in rec.snippet("lightning")
    assert "accumulate_grad_batches=4" in rec.snippet("lightning")


def test_lightning_says_that_a_second_order_optimizer_cannot_accumulate() -> None:
    rec = recommend("adahessian", settings=factory.settings(accumulate=2))
    assert "last batch" in snippet(rec, "lightning").differences[0]
    assert not snippet(recommend("adamw"), "lightning").differences


def test_lines_fit_a_terminal() -> None:
    for name in OPTIMIZERS:
        for kind in ("plain", "lightning", "transformers", "accelerate"):
            assert max(map(len, recommend(name).snippet(kind).splitlines())) < 100


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        factory.recommendation().snippet("lightening")
    assert "Did you mean lightning?" in caught.value.hint
