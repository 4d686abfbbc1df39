"""The table: complete, in order, and each start inside its range."""

from __future__ import annotations

import subprocess
import sys

import pytest

from autoopt.optim.catalog import TABLE
from autoopt.optim.spec import Need, OptimSpec

ORDER = (
    "sgd adamw nadam radam rmsprop adagrad adafactor muon lion schedule_free_adamw prodigy "
    "adan adahessian sgd_sai"
)


def test_names_and_order() -> None:
    assert [spec.name for spec in TABLE] == ORDER.split()


@pytest.mark.parametrize("spec", TABLE, ids=lambda spec: spec.name)
def test_a_search_starts_inside_its_ranges(spec: OptimSpec) -> None:
    assert {key: value for key, value in spec.start().items() if value not in spec.space[key]} == {}


@pytest.mark.parametrize("spec", TABLE, ids=lambda spec: spec.name)
def test_a_learning_rate_is_searched_widely_on_both_sides_of_its_start(spec: OptimSpec) -> None:
    lr = spec.space["lr"]
    assert lr.scale == "log"
    assert lr.high / spec.defaults["lr"] >= 10
    assert spec.defaults["lr"] / lr.low >= 10
    assert spec.summary
    assert spec.paper


def test_needs() -> None:
    needs = {spec.name: set(spec.needs) for spec in TABLE if spec.needs}
    assert needs == {
        "muon": {Need.MATRICES_ONLY},
        "schedule_free_adamw": {Need.TRAIN_EVAL_MODE, Need.OWN_SCHEDULE},
        "prodigy": {Need.ONE_RATE},
        "adahessian": {Need.SECOND_ORDER},
    }


def test_reading_the_table_loads_no_torch() -> None:
    code = (
        "import sys, autoopt, autoopt.optim, autoopt.policy\n"
        "from autoopt.optim import registry\n"
        "[registry.why_unavailable(registry.get(n)) for n in registry.names()]\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
