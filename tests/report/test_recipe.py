"""The YAML: exact round trip, order for people, clear refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.errors import RunError
from autoopt.records import Recommendation
from autoopt.report import recipe
from tests.report import factory


@pytest.mark.parametrize("make", [factory.recommendation, factory.keep])
def test_round_trip_is_exact(make: object, tmp_path: Path) -> None:
    rec = make()  # type: ignore[operator]
    rec.save(tmp_path / "recommendation.yaml")
    assert Recommendation.load(tmp_path / "recommendation.yaml") == rec
    assert Recommendation.load(tmp_path) == rec


@settings(max_examples=30)  # each writes and reads a whole recipe
@given(
    lr=st.floats(allow_nan=False, allow_infinity=False),
    text=st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc"))),
    words=st.lists(st.text(alphabet=": #-[]{}'\"\\yesno0123456789.e+~\u00e9\u4e2d")),
)
def test_round_trip_of_any_number_and_text(
    lr: float, text: str, words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    changed = factory.choice(hyper={"lr": lr}, arguments={"lr": lr, "foreach": None, "betas": (lr, 0.5)})
    rec = factory.recommendation(recommendation=changed, reason=text, notes=words)
    path = tmp_path_factory.mktemp("recipe") / "r.yaml"
    rec.save(path)
    assert Recommendation.load(path) == rec


def test_schema_comes_first_and_sections_are_explained() -> None:
    text = recipe.dump(factory.recommendation())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "schema: autoopt/1"
    assert text.splitlines()[0].startswith("# against yours: loss 0.1522 -> 0.1184")
    keys = list(yaml.safe_load(text))
    assert keys[:5] == ["schema", "name", "recommendation", "expected", "against_yours"]
    assert yaml.safe_load(text)["recommendation"]["class"] == "torch.optim:AdamW"
    assert "    betas: [0.9, 0.98]\n    eps: 1.0e-08\n" in text


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("schema: autoopt/1", "schema: autoopt/9"), "autoopt/9"),
        (("steps: 1500", "steps: many"), "steps"),
        (("name: digits_mlp", "nom: digits_mlp"), "name"),
        (("hyper: {lr: 0.0024,", "hyper: {lr: .nan,"), "lr"),
    ],
)
def test_an_edited_file_that_does_not_fit_is_refused_by_key(
    change: tuple[str, str], named: str, tmp_path: Path
) -> None:
    path = tmp_path / "recommendation.yaml"
    text = recipe.dump(factory.recommendation())
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(RunError, match=named) as caught:
        Recommendation.load(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"recommendation\.yaml"):
        Recommendation.load(tmp_path)
