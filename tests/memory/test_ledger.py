from __future__ import annotations

import torch

from autoopt.memory.ledger import Ledger


def test_a_storage_counts_once_and_as_long_as_it_lives() -> None:
    ledger = Ledger()
    x = torch.zeros(10)
    assert ledger.see(x) == ledger.see(x[3:])
    assert ledger.now == 40
    view = x[:2]
    del x
    assert ledger.now == 40  # the view holds it
    del view
    assert ledger.now == 0


def test_the_course_tells_every_birth_and_death_since_a_mark() -> None:
    ledger = Ledger()
    old = torch.zeros(100)
    number = ledger.see(old)
    begin = ledger.mark()
    first = torch.zeros(10)
    ledger.see(first)
    passing = torch.zeros(50)
    ledger.see(passing)
    del passing
    last = torch.zeros(5)
    ledger.see(last)
    assert ledger.course(begin, without=frozenset({number})) == [0, 40, 240, 40, 60]
    assert ledger.alive() == {number, ledger.see(first), ledger.see(last)}
    assert ledger.alive(begin) == {number}


def test_bytes_are_rounded_as_an_allocator_does_and_stand_ins_weigh_nothing() -> None:
    ledger = Ledger(grain=512)
    x, copy = torch.zeros(1), torch.zeros(1000)
    ledger.see(x)
    ledger.ignore(copy)
    assert ledger.now == 512
    assert ledger.bytes([x, x[:1], copy]) == 512
