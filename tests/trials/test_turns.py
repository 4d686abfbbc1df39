import contextvars
import threading

import pytest

from autoopt.trials.turns import in_turns

PLACE = contextvars.ContextVar("PLACE", default="outside")


def test_items_come_one_at_a_time_and_the_loop_stands_still_between_them():
    done = []

    def loop(report):
        for step in range(3):
            done.append(step)
            report(step)

    items = in_turns(loop)
    assert done == []
    assert next(items) == 0
    assert done == [0]
    assert list(items) == [1, 2]


def test_an_exception_of_the_loop_comes_out():
    def loop(report):
        report(1)
        raise ValueError("mine")

    items = in_turns(loop)
    next(items)
    with pytest.raises(ValueError, match="mine"):
        next(items)


def test_closing_runs_the_loops_clean_up():
    cleaned = []

    def loop(report):
        try:
            while True:
                report(0)
        finally:
            cleaned.append(True)

    items = in_turns(loop)
    next(items)
    items.close()
    assert cleaned == [True]


def test_a_loop_that_was_never_begun_is_not_run_by_closing():
    begun = []
    in_turns(lambda report: begun.append(True)).close()
    assert begun == []


def test_the_loop_runs_in_the_callers_thread_and_context():
    seen = []

    def loop(report):
        seen.append((threading.get_ident(), PLACE.get()))
        report(None)

    token = PLACE.set("inside")
    try:
        list(in_turns(loop))
    finally:
        PLACE.reset(token)
    assert seen == [(threading.get_ident(), "inside")]


def test_one_loop_can_run_inside_another():
    def outer(report):
        for item in in_turns(lambda inner: [inner(1), inner(2)]):
            report(10 * item)

    assert list(in_turns(outer)) == [10, 20]


def test_items_may_be_taken_from_different_places():
    items = in_turns(lambda report: [report(1), report(2), report(3)])
    assert next(items) == 1
    assert list(in_turns(lambda report: report(next(items)))) == [2]
    assert next(items) == 3
