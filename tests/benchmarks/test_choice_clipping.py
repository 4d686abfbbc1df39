"""The command that measures clipping: its table, and that its spiky workload spikes where the product looks."""

from __future__ import annotations

import math

from autoopt.tuning.options import spiking
from autoopt.workload import load
from benchmarks.choice import clipping
from benchmarks.choice.clipping import HERE, MULTIPLES, Line


def test_the_table_tells_what_diverged_and_what_exploded() -> None:
    line = Line("toy", "sgd", 0.1, [1.0, 1.0, 3.0], [1.0, math.inf, 2.0], None, dict.fromkeys(MULTIPLES, 0.5))
    head, rule, row = clipping._table([line]).splitlines()
    assert head.count("|") == rule.count("|") == row.count("|")
    assert row.startswith("| toy | sgd | 0.1 | 1 | 3 | 2 | 1.33 and not finite | diverged | 0.5 |")


def test_wrong_labels_spike_at_first_and_small_errors_do_not() -> None:
    ratios = []
    for arguments in ((), ("3",)):
        workload = load(str(HERE / "spiky" / "outliers.py"), arguments)
        try:
            ratios.append(spiking(clipping._calibration(workload)))
        finally:
            workload.close()
    assert ratios[0] is not None
    assert ratios[0] > 100
    assert ratios[1] is None
