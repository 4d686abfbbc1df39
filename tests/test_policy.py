"""Policies: what is shipped is sound, what is wrong is named with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoopt import policy as policies
from autoopt.errors import PolicyError, UnknownOptimizer, UsageError
from autoopt.optim import registry
from autoopt.optim.spec import Range
from autoopt.policy import Candidate, Policy

SOUND = """\
schema: autoopt-policy/1
name: mine
tolerance: 1e-2
limits:
  memory: 8GB
  step_time: 2x
candidates:
  adamw:
    lr: 1e-3
    range: [1e-4, 1e-2]
    hyper: {weight_decay: 0.1, eps: 1e-6}
    search:
      - beta2
      - weight_decay
  sgd:
"""


@pytest.fixture
def write(tmp_path: Path) -> object:
    def to_file(text: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return to_file


def test_the_shipped_ones() -> None:
    found = policies.shipped()
    assert [p.name for p in found] == ["balanced", "best-loss", "fastest", "low-memory", "quick"]
    assert [policies.load(p.name) for p in found] == found


@pytest.mark.parametrize("policy", policies.shipped(), ids=lambda policy: policy.name)
def test_a_shipped_policy_explains_itself_and_fits_its_optimizers(policy: Policy) -> None:
    assert len(policy.explain) > 40
    assert {"adamw", "sgd"} <= set(policy.candidates)
    for name, candidate in policy.candidates.items():
        spec = registry.get(name)
        ranges = candidate.ranges(spec)
        assert next(iter(ranges)) == "lr"
        start = candidate.start(spec)
        assert {key: start[key] for key in ranges if start[key] not in ranges[key]} == {}


def test_a_file_lies_over_the_table(write: object) -> None:
    policy = policies.load(write(SOUND))  # type: ignore[operator]
    adamw, spec = policy.candidates["adamw"], registry.get("adamw")
    assert adamw.start(spec) == {"lr": 1e-3, "beta2": 0.999, "weight_decay": 0.1, "beta1": 0.9, "eps": 1e-6}
    assert list(adamw.ranges(spec)) == ["lr", "beta2", "weight_decay"]
    assert adamw.ranges(spec)["lr"] == Range(1e-4, 1e-2)
    assert policy.candidates["sgd"] == Candidate()
    assert list(policy.candidates["sgd"].ranges(registry.get("sgd"))) == list(registry.get("sgd").space)
    assert policy.tolerance == 0.01
    assert policy.confirm == 0.25


def test_a_policy_survives_the_record_of_a_run(write: object) -> None:
    policy = policies.load(write(SOUND))  # type: ignore[operator]
    assert Policy.model_validate_json(policy.model_dump_json()) == policy
    assert Policy.model_validate(policy.model_dump(mode="json", by_alias=True)) == policy


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "says", "hint"),
    [
        ("tolerance:", "tolerence:", 3, "tolerence", "no such key", "tolerance"),
        ("lr: 1e-3", "lrr: 1e-3", 9, "candidates.adamw.lrr", "no such key", "lr"),
        ("lr: 1e-3", "lr: fast", 9, "candidates.adamw.lr", "valid number", ""),
        ("lr: 1e-3", "lr: 0.5", 9, "candidates.adamw.lr", "outside 0.0001 to 0.01", "both lr and range"),
        (
            "    lr: 1e-3\n    range: [1e-4, 1e-2]",
            "    range: [1e-4, 1e-3]",
            9,
            "candidates.adamw.range",
            "the start 0.003 is outside",
            "both",
        ),
        ("[1e-4, 1e-2]", "[1e-2, 1e-4]", 10, "candidates.adamw.range", "low to high", ""),
        ("0.1,", ".nan,", 11, "candidates.adamw.hyper.weight_decay", "finite", ""),
        ("0.1,", "40,", 11, "candidates.adamw.hyper.weight_decay", "outside the searched", "hold it fixed"),
        ("eps: 1e-6", "epz: 1e-6", 11, "candidates.adamw.hyper.epz", "no such start value", "eps"),
        ("- beta2", "- beta3", 13, "candidates.adamw.search.beta3", "no range for beta3", "beta2"),
        ("  sgd:", "  sdg:", 15, "candidates.sdg", "no optimizer 'sdg'", "sgd"),
        ("  sgd:", "  adamw:", 15, "candidates.adamw", "given twice", "line 8"),
        ("8GB", "8 apples", 5, "limits.memory", "not a size", ""),
        ("2x", "two", 6, "limits.step_time", "relative to AdamW", ""),
        ("2x", "0x", 6, "limits.step_time", "above zero", ""),
        ("/1", "/2", 1, "schema", "autoopt-policy/1", ""),
        ("name: mine\n", "", 1, "name", "missing", "policies balanced"),
        ("tolerance: 1e-2", "confirm: 0.9", 3, "confirm", "less than or equal to 0.6", ""),
        ("tolerance: 1e-2", "tie_order: [time, money]", 3, "tie_order.1", "'memory'", ""),
        ("  step_time: 2x", "  speed: 3", 6, "limits.speed", "no such key", "There are memory, step_time"),
    ],
)
def test_what_is_wrong_is_named(
    write: object, old: str, new: str, line: int, key: str, says: str, hint: str
) -> None:
    assert SOUND.count(old) == 1
    path = write(SOUND.replace(old, new))  # type: ignore[operator]
    with pytest.raises(PolicyError) as caught:
        policies.load(path)
    assert f"{path}, line {line}, {key}: " in caught.value.message
    assert says in caught.value.message
    assert hint in caught.value.hint


def test_the_first_problem_is_named_and_the_others_counted(write: object) -> None:
    path = write(SOUND.replace("8GB", "many").replace("1e-2\n", "much\n"))  # type: ignore[operator]
    with pytest.raises(PolicyError, match=r"line 3, tolerance: .*\n.*1 more problem"):
        policies.load(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1,", "line 1: this is not YAML"),
        ("name: a\n\tb: c", "line 2"),
        ("", "mapping"),
        ("- a", "mapping"),
    ],
)
def test_what_is_no_policy_at_all(write: object, text: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        policies.load(write(text))  # type: ignore[operator]


def test_no_candidates(write: object) -> None:
    with pytest.raises(PolicyError, match=r"line 3, candidates: .*at least 1"):
        policies.load(write("schema: autoopt-policy/1\nname: a\ncandidates: {}\n"))  # type: ignore[operator]


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(PolicyError, match="'balancd'") as caught:
        policies.load("balancd")
    assert "Did you mean balanced?" in caught.value.hint


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(PolicyError, match=r"nowhere\.yaml cannot be read: No such file"):
        policies.load("nowhere.yaml")


def test_restrict_keeps_what_the_policy_says_and_takes_others_from_the_table(write: object) -> None:
    policy = policies.load(write(SOUND)).restrict(["adagrad", "adamw"])  # type: ignore[operator]
    assert list(policy.candidates) == ["adagrad", "adamw"]
    assert policy.candidates["adamw"].lr == 1e-3
    assert policy.candidates["adagrad"] == Candidate()


def test_restrict_to_what_is_not_known() -> None:
    with pytest.raises(UnknownOptimizer) as caught:
        policies.load("quick").restrict(["adamw", "addam"])
    assert "adam" in caught.value.hint
    with pytest.raises(UsageError, match="No optimizer is named"):
        policies.load("quick").restrict([])


def test_a_candidate_of_another_package_is_read_without_that_package(write: object) -> None:
    text = SOUND + "  bitsandbytes:AdamW8bit: {lr: 1e-4}\n"
    assert policies.load(write(text)).candidates["bitsandbytes:AdamW8bit"].lr == 1e-4  # type: ignore[operator]


def test_a_start_that_does_not_fit_is_refused_when_it_is_used() -> None:
    with pytest.raises(PolicyError, match="adamw, lr: the start 5 is outside"):
        Candidate(lr=5.0).start(registry.get("adamw"))


def test_an_installed_package_has_its_policies_inside(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inside = tmp_path / "autoopt" / "policies"
    inside.mkdir(parents=True)
    (inside / "only.yaml").write_text(SOUND.replace("mine", "only"), encoding="utf-8")
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path / package)
    assert [p.name for p in policies.shipped()] == ["only"]


def test_limits_of_the_command_line_lie_over_those_of_the_policy() -> None:
    policy = policies.load("balanced").limited("memory=20GB, step_time=0.2s")
    assert policy.limits.words() == "memory=20GB, step_time=0.2s"
    assert policy.limited("step_time=2x").limits.words() == "memory=20GB, step_time=2x"
    assert policy.limited("step_time=0.5").limits.step_time == 0.5
    assert policy.limited(None) is policy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("memory", "cannot be read at 'memory'"),
        ("memory=20GB,", "cannot be read at ''"),
        ("speed=2x", "no limit 'speed'"),
        ("memory=8GB,memory=9GB", "memory twice"),
        ("memory=8 apples", "not a size"),
        ("step_time=fast", "relative to AdamW"),
        ("step_time=0x", "above zero"),
        ("step_time=-1", "relative to AdamW"),
    ],
)
def test_a_limit_that_cannot_be_used_is_told(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        policies.load("balanced").limited(text)
    assert "--limit memory=20GB,step_time=0.2s" in caught.value.hint
