"""For all tests: one thread each, since several run at once; no deadline, since a shared machine keeps none;
and what a test imports from its temporary folder is gone after it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before torch is imported, here and in every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what ends with "&" deaf to Ctrl-C, and so would be every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis
import pytest

from tests.limits import pytest_configure, pytest_runtest_protocol  # noqa: F401  pytest's hooks
from tests.order import pytest_collection_modifyitems, pytest_deal  # noqa: F401  the same

hypothesis.settings.register_profile("autoopt", deadline=None)
hypothesis.settings.load_profile("autoopt")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Neighbours stay in one process, which then makes what they share once; whoever has nothing left takes some over."""
    if config.getvalue("dist") != "load":  # asked for by name
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector looks through it no more, at each of hundreds of collections."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def leases_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests, and what they start, lease made-up devices, and not this machine's."""
    os.environ["AUTOOPT_LEASES"] = str(tmp_path_factory.mktemp("leases") / "locks")


@pytest.fixture(scope="session")
def commons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run share (see `tests.once`)."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(autouse=True)
def users_modules_are_forgotten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every test may call its file `model.py`, and a process has room for one module of that name."""
    before = dict(sys.modules)
    yield
    folder = tmp_path_factory.getbasetemp()
    new = [(name, module) for name, module in sys.modules.items() if before.get(name) is not module]
    for name, module in new:
        place = getattr(module, "__file__", None)
        if place and Path(place).is_relative_to(folder):
            del sys.modules[name]
