from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt import errors
from autoopt.errors import AutooptError, UserCodeError, WorkerError
from autoopt.records import Flags
from autoopt.trials.protocol import COMMANDS, REPLIES, Ended, Failed, Lines, Load, Run, encode
from autoopt.trials.testing import spec

ALL = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, AutooptError) and kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", ALL)
def test_an_error_comes_out_as_it_went_in(kind: type[AutooptError]) -> None:
    line = encode(Failed.of(kind("a sentence\nof two lines", "a way out")))
    assert line.count(b"\n") == 1
    reply = REPLIES.validate_json(line)
    assert isinstance(reply, Failed)
    error = reply.exception()
    assert type(error) is kind
    assert (error.message, error.hint) == ("a sentence\nof two lines", "a way out")


def test_a_user_s_error_keeps_its_place() -> None:
    error = Failed.of(UserCodeError("m", where="model.py:7", trace="Traceback")).exception()
    assert isinstance(error, UserCodeError)
    assert (error.where, error.trace) == ("model.py:7", "Traceback")


def test_a_subclass_from_elsewhere_goes_by_its_base() -> None:
    class Special(UserCodeError):
        pass

    assert type(Failed.of(Special("m", where="x:1")).exception()) is UserCodeError


def test_an_unknown_class_is_a_worker_error() -> None:
    error = Failed(error="annotations", message="m").exception()
    assert type(error) is WorkerError
    assert "annotations" in error.message


def test_commands_survive_a_round_trip() -> None:
    load = Load(
        engine="m:f",
        target="model.py",
        arguments=["-x"],
        flags=Flags(steps=3),
        device="cpu",
        slot=1,
        threads=2,
        full=True,
    )
    for command in (load, Run(spec=spec(1, "adamw"))):
        assert COMMANDS.validate_json(encode(command)) == command


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1)), st.data())
def test_lines_do_not_depend_on_how_the_stream_was_cut(texts: list[str], data: st.DataObject) -> None:
    stream = "".join(f"{text}\n" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    lines, found = Lines(), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += lines.feed(stream[begin:end])
    assert found == [text.encode() for text in texts]


def test_a_torn_line_spoils_only_itself() -> None:
    found = Lines().feed(b'{"kind": "fini' + b"\n" + encode(Ended(signal=9)))
    assert len(found) == 2
    assert REPLIES.validate_json(found[1]) == Ended(signal=9)
