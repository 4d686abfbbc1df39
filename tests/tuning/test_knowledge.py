from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.errors import PolicyError
from autoopt.optim import registry
from autoopt.tuning.knowledge import NOTHING, SCHEMA, Knowledge, Network, read, shipped

SOUND = f"""schema: {SCHEMA}
networks:
  a: {{kind: "A net", parameters: 100, steps: 80}}
  b: {{kind: "Another", parameters: 10000, steps: 40}}
gaps:
  adamw:
    a:
      0: [[-3, 0.5], [-2, 0], [-1, null]]
      1: [[-3, 0.1]]
    b:
      0: [[-2, 0.25]]
"""


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(SOUND, encoding="utf-8")
    found = read(path)
    assert found.networks["a"] == Network("A net", 100, 80)
    assert found.gaps["a", "adamw"] == {
        0.0: ((-3.0, 0.5), (-2.0, 0.0), (-1.0, None)),
        1.0: ((-3.0, 0.1),),
    }
    assert found.parameters == pytest.approx(1000), "the geometric mean"


def test_the_shipped_file_speaks_of_optimizers_that_we_have() -> None:
    found = shipped()
    assert len(found.networks) >= 5
    assert {network for network, _ in found.gaps} == set(found.networks)
    optimizers = {optimizer for _, optimizer in found.gaps}
    assert {"adamw", "sgd", "muon"} <= optimizers <= set(registry.names())


def test_every_shipped_curve_is_sorted_and_at_each_length_somebody_is_the_best() -> None:
    lowest: dict[tuple[str, float], float] = {}
    for (network, _), curves in shipped().gaps.items():
        for s, curve in curves.items():
            rates = [x for x, _ in curve]
            assert rates == sorted(set(rates))
            gaps = [gap for _, gap in curve if gap is not None]
            assert all(math.isfinite(gap) and gap >= 0 for gap in gaps)
            lowest[network, s] = min([lowest.get((network, s), math.inf), *gaps])
    assert set(lowest.values()) == {0.0}


@given(st.sets(st.sampled_from(sorted(shipped().networks))))
def test_without_leaves_out_those_and_no_others(names: set[str]) -> None:
    left = shipped().without(names)
    assert set(left.networks) == set(shipped().networks) - names
    assert {n for n, _ in left.gaps} == set(left.networks)
    assert all(left.gaps[key] == shipped().gaps[key] for key in left.gaps)
    assert left.without(names) == left


def test_without_an_unknown_name_is_everything() -> None:
    assert shipped().without({"no such net"}) == shipped()


def test_nothing_knows_no_size() -> None:
    assert Knowledge({}, {}) == NOTHING
    assert NOTHING.parameters == 1.0


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (SCHEMA, "autoopt-knowledge/9", "its schema is 'autoopt-knowledge/9'"),
        ("networks:", "nets:", "networks"),
        ("parameters: 100,", "parameters: many,", "many"),
        ("[-3, 0.1]", "[-3, 0.1, 7]", "too many values"),
        ("[[-2, 0.25]]", "[[-2, 0.25", "expected"),
        ("[[-2, 0.25]]", "7", "not iterable"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert SOUND.count(old) == 1
    path = tmp_path / "broken.yaml"
    path.write_text(SOUND.replace(old, new), encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert says in caught.value.message
    assert caught.value.hint


def test_a_file_that_is_missing_or_no_mapping_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("", encoding="utf-8")
    for path in (tmp_path / "none.yaml", empty):
        with pytest.raises(PolicyError, match="no file of knowledge") as caught:
            read(path)
        assert str(path) in caught.value.message
