"""The files by which a run is told what it may use of a cluster."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from autoopt.errors import RunError
from autoopt.trials.cluster.allotted import ALLOTTED, PLACES, Allotment, Allotted, read_held, write
from autoopt.trials.cluster.remote import variables_of


def allot(folder: Path, **places: int) -> None:
    write(folder / ALLOTTED, Allotment(kind="x", places=places))


def test_a_change_is_seen_once(tmp_path: Path) -> None:
    allot(tmp_path, a=1)
    allotted = Allotted.of({PLACES: str(tmp_path)})
    assert allotted is not None
    assert (allotted.now.kind, allotted.now.places, allotted.changed()) == ("x", {"a": 1}, False)
    allot(tmp_path, a=1)
    assert not allotted.changed()  # written anew, and the same
    allot(tmp_path, b=2)
    assert allotted.changed()
    assert allotted.now.places == {"b": 2}
    assert not allotted.changed()


def test_what_a_run_has_is_told_and_read_back(tmp_path: Path) -> None:
    assert read_held(tmp_path).places == {}
    allot(tmp_path, a=2)
    Allotted(tmp_path).tell(Counter(a=2), Counter(a=1))
    assert (read_held(tmp_path).places, read_held(tmp_path).loaded) == ({"a": 2}, {"a": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["places-allotted.json", "places-held.json"]


def test_without_the_variable_all_may_be_used_and_a_missing_file_is_said(tmp_path: Path) -> None:
    assert Allotted.of({}) is None
    with pytest.raises(RunError, match="does not say"):
        Allotted.of({PLACES: str(tmp_path)})


def test_what_stays_on_this_machine() -> None:
    given = {"AUTOOPT_X": "1", "AUTOOPT_TOKEN": "secret", PLACES: "/here", "RAY_AUTH_TOKEN": "secret"}
    assert variables_of(given) == {"AUTOOPT_X": "1"}
