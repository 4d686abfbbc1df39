from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autoopt.memory.resident import ResidentPeak

MIB = 2**20


def hold(size: int) -> torch.Tensor:
    """Bytes that are really touched, and given back to the system when they are let go."""
    return torch.ones(size, dtype=torch.uint8)


def test_a_peak_between_two_looks_is_seen_and_an_earlier_one_is_not() -> None:
    hold(256 * MIB)
    peak = ResidentPeak()
    before = peak.bytes()
    hold(128 * MIB)
    grown = peak.bytes() - before
    assert 100 * MIB < grown < 160 * MIB
    assert ResidentPeak().bytes() < before + 64 * MIB


@pytest.mark.parametrize("missing", ["nowhere/clear_refs", ""])
def test_where_the_system_keeps_no_peak_looks_make_it(tmp_path: Path, missing: str) -> None:
    peak = ResidentPeak(tmp_path / missing)  # no such file, or a folder
    before = peak.bytes()
    kept = hold(128 * MIB)
    peak.look()
    del kept
    assert 100 * MIB < peak.bytes() - before < 160 * MIB
