from __future__ import annotations

import errno
import json
import math
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.errors import RunError
from autoopt.files import plain, read_record, to_yaml, write_record, write_text
from autoopt.records import Flags, Recommendation, Record, RunStarted, Settings

FINITE = st.floats(allow_nan=False, allow_infinity=False)


class Box(Record):
    content: dict[str, Any]


def _started(**changes: Any) -> RunStarted:
    fields: dict[str, Any] = {
        "at": 1.0,
        "target": "model.py",
        "arguments": [],
        "flags": Flags(steps=3),
        "budget_seconds": 60,
        "policy": {},
        "optimizers": None,
        "seed": 0,
        "device": "cpu",
        "workers": 1,
        "version": "0",
    }
    return RunStarted(**(fields | changes))


def test_text_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "note.txt"
    write_text(path, "one")
    assert write_text(path, "zwei ü") == path
    assert path.read_text(encoding="utf-8") == "zwei ü"
    assert list(path.parent.iterdir()) == [path]


def test_a_link_is_followed_and_permissions_stay(tmp_path: Path) -> None:
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_new_file_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "recommendation.yaml"
    write_text(path, "old")

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), full)
    with pytest.raises(RunError, match="disk is full") as caught:
        write_text(path, "new")
    assert "--out" in caught.value.hint
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="could not be written"):
        write_text(tmp_path / "file" / "inner.txt", "text")


@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "a.json"])
def test_records_survive(tmp_path: Path, name: str) -> None:
    settings = Settings(steps=7, clip=1e-7, metric=("accuracy", "max"), origins={"steps": "flag"})
    assert read_record(write_record(tmp_path / name, settings), Settings) == settings


@given(
    st.dictionaries(
        st.text(min_size=1),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.text()
            | st.floats(allow_nan=False, allow_infinity=False),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=4,
    )
)
def test_free_data_survives(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("free")
    for name in ("a.yaml", "a.json"):
        assert read_record(write_record(folder / name, Box(content=content)), Box).content == content


@pytest.mark.parametrize("bad", [math.nan, math.inf, [1.0, {"x": -math.inf}]])
@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
def test_nan_is_never_written(tmp_path: Path, bad: object, name: str) -> None:
    record = Box.model_construct(content={"deep": bad})
    with pytest.raises(ValueError, match=r"Box: content\.deep.* is not a finite number"):
        write_record(tmp_path / name, record)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", '{"content": {"x": NaN}}'), ("a.yaml", "content: {x: .nan}")]
)
def test_nan_is_refused_when_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RunError, match=r"content\.x is not a finite number"):
        read_record(tmp_path / name, Box)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps: [1", "is not YAML"),
        ("- a\n- b", "is not a table of keys"),
        ("steps: many", "steps: Input should be a valid integer"),
        ("steps: 1\nstepps: 2", "stepps: Extra inputs"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(RunError, match=says) as caught:
        read_record(path, Settings)
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "found"), [("schema: autoopt/99", "'autoopt/99'"), ("name: x", "no schema")]
)
def test_another_schema_is_named(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "recommendation.yaml"
    path.write_text(text)
    with pytest.raises(RunError, match=found) as caught:
        read_record(path, Recommendation)
    assert "'autoopt/1'" in caught.value.message


def test_a_missing_file_and_a_strange_suffix(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is no file"):
        read_record(tmp_path / "none.yaml", Settings)
    with pytest.raises(ValueError, match=r"not as 'a\.txt'"):
        write_record(tmp_path / "a.txt", Settings())


def test_plain_uses_aliases_and_yaml_keeps_the_order() -> None:
    data = plain(_started())
    assert data["flags"]["steps"] == 3
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert to_yaml({"z": 1, "a": [1, 2]}) == "z: 1\na: [1, 2]\n"
