"""What `autoopt memory` predicts for a GPU against what an H100's allocator saw, where the nets are quick to trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.memory.compare import against, table

pytestmark = pytest.mark.long(seconds=20)

MEASURED = Path(__file__).resolve().parents[2] / "benchmarks" / "memory" / "h100.jsonl"


def test_predictions_for_a_gpu_are_within_five_percent_of_it() -> None:
    where, device, rows = against(MEASURED, ["flights", "digits_resnet"])
    assert (device, "H100" in where) == ("cuda", True)
    compared = [r for r in rows if "peak_bytes" in r["measured"]]
    assert len(compared) == 27
    for row in compared:
        assert row["predicted"]["state_bytes"] == row["measured"]["state_bytes"], row["optimizer"]
        assert row["predicted"]["peak_bytes"] == pytest.approx(row["measured"]["peak_bytes"], rel=0.05)
    assert "13 of 13" in table(rows)
