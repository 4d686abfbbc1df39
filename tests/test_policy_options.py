"""What a policy says of clipping, warm-up and batch size, as people write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoopt import policy as policies
from autoopt.errors import PolicyError
from autoopt.policy import Policy

HEAD = "schema: autoopt-policy/1\nname: mine\ncandidates: {adamw: }\n"


@pytest.fixture
def load(tmp_path: Path):
    def from_text(tune: str) -> Policy:
        path = tmp_path / "mine.yaml"
        path.write_text(f"{HEAD}{tune}\n", encoding="utf-8")
        return policies.load(str(path))

    return from_text


def test_nothing_said_clips_where_it_is_needed_and_tries_nothing(load) -> None:
    tune = load("").tune
    assert (tune.clip, tune.warmup, tune.batch_size) == ("auto", "off", "off")


@pytest.mark.parametrize("off", ["off", "'off'", "no", "false"])
def test_a_bare_off_is_off_though_yaml_reads_it_as_false(load, off: str) -> None:
    tune = load(f"tune: {{clip: {off}, warmup: {off}, batch_size: {off}}}").tune
    assert (tune.clip, tune.warmup, tune.batch_size) == ("off", "off", "off")


def test_lists_are_numbers_each_once_and_off_in_them_is_none(load) -> None:
    tune = load("tune: {clip: [1, 0.5, 1.0, off], warmup: [0.0, 0.1]}").tune
    assert (tune.clip, tune.warmup) == ((1.0, 0.5, 0.0), (0.0, 0.1))
    assert tune.words() == {"clip": "also 1, 0.5, none", "warmup": "also none, 0.1", "batch size": "as it is"}


def test_batches_are_multiples_of_ones_own_which_is_none_of_them(load) -> None:
    tune = load("tune: {batch_size: [2, 0.5, 1, 4]}").tune
    assert tune.batch_size == (2.0, 0.5, 4.0)
    assert tune.words()["batch size"] == "also 2 x, 0.5 x, 4 x yours, at equal samples"
    assert load("tune: {batch_size: [1]}").tune.batch_size == "off"


def test_a_run_keeps_it_as_it_was(load) -> None:
    policy = load("tune: {clip: [0.5], warmup: [0.1], batch_size: [2, 0.25]}")
    assert Policy.model_validate(policy.model_dump(mode="json", by_alias=True)) == policy


@pytest.mark.parametrize(
    ("tune", "key", "says"),
    [
        ("{clip: [0.5, -1]}", "tune.clip", "a norm is above 0"),
        ("{clip: always}", "tune.clip", "auto, off, or a list of norms"),
        ("{clip: 1.0}", "tune.clip", "a list of norms"),
        ("{clip: on}", "tune.clip", "a list of norms"),
        ("{clip: []}", "tune.clip", "a list of norms"),
        ("{clip: [high]}", "tune.clip", "'high' is no number"),
        ("{clip: [.nan]}", "tune.clip", "nan is no number"),
        ("{clip: [1, 2, 3, 4, 5, 6]}", "tune.clip", "at most 5"),
        ("{warmup: [0.1, 100]}", "tune.warmup", "a share of the run"),
        ("{warmup: auto}", "tune.warmup", "a list of shares"),
        ("{batch_size: [32, 64]}", "tune.batch_size", "32 is none .not samples: 2 is twice as many"),
        ("{batch_size: [1.5]}", "tune.batch_size", "1.5 is none"),
        ("{batch_size: [off]}", "tune.batch_size", "0 is none"),
        ("{batch_size: 2}", "tune.batch_size", r"such as \[2, 4\]"),
        ("{momentum: off}", "tune.momentum", "there is no such key"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_the_way_out(load, tune: str, key: str, says: str) -> None:
    with pytest.raises(PolicyError, match=rf"mine.yaml, line 4, {key}: .*{says}"):
        load(f"tune: {tune}")


def test_an_option_among_an_optimizers_settings_is_sent_to_its_place(load, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(HEAD.replace("{adamw: }", "{adamw: {hyper: {clip: 1.0}}}"))
    with pytest.raises(PolicyError, match="no setting of an optimizer") as caught:
        policies.load(str(path))
    assert "tune: {clip: ...}" in caught.value.hint
