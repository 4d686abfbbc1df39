"""What loads what: torch only where it is needed, and every module on its own."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import autoopt

NEEDS_RAY = "autoopt.trials.cluster.bridge"
"""Imported in a process of its own, and only with the extra `ray`."""

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(autoopt.__path__, "autoopt.")
    if not module.name.endswith("__main__") and (module.name != NEEDS_RAY or find_spec("ray"))
)

COORDINATOR = [
    "autoopt.journal",
    "autoopt.optim.catalog",
    "autoopt.optim.registry",
    "autoopt.pipeline",
    "autoopt.policy",
    "autoopt.recommend",
    "autoopt.run",
    "autoopt.schedule",
    "autoopt.trials.pool",
    "autoopt.tuning.planner",
]
HEAVY = "{'torch', 'transformers', 'lightning', 'plotly', 'optuna'} & set(sys.modules)"


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Not from the tests' folder: what is imported must not depend on where one is.
    environment = os.environ | {"PYTHONPATH": str(Path(autoopt.__file__).parent.parent)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/")


def test_importing_autoopt_loads_nothing_heavy() -> None:
    done = run(f"import sys, autoopt; sys.exit(str({HEAVY}) if {HEAVY} else 0)")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_lines_help_loads_nothing_heavy() -> None:
    code = f"""
import sys
from autoopt.cli.main import main
sys.argv = ["autoopt", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code
assert not ({HEAVY}), {HEAVY}
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert "profile" in done.stdout


def test_the_coordinator_loads_no_torch() -> None:
    code = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert "torch" not in sys.modules, name
"""
    reports = [name for name in MODULES if name.startswith("autoopt.report") and "handover" not in name]
    done = run(code, *COORDINATOR, *reports)
    assert done.returncode == 0, done.stderr


def test_every_module_imports_on_its_own() -> None:
    """Each with nothing else of its room loaded before, so that no cycle hides.

    A module's import begins with that of its package. So what the package itself loads is tried once, with it;
    every other is tried on its own, from the moment when the package was there and nothing else of the room.
    Rooms below stay loaded: import-linter lets none of them import what stands above it.
    """
    code = """
import importlib, sys, traceback

def forget(loaded):
    for name in loaded:
        module = sys.modules.pop(name, None)
        package, _, last = name.rpartition(".")
        above = sys.modules.get(package)
        if above is not None and getattr(above, last, None) is module:
            delattr(above, last)  # or `from package import it` would still find it

def within(package):
    return {key for key in sys.modules if key == package or key.startswith(package + ".")}

failed = []

def load(name):
    try:
        importlib.import_module(name)
    except BaseException:
        traceback.print_exc()
        failed.append(name)

names = sys.argv[1:]
packages = {}
for name in names:
    packages.setdefault(".".join(name.split(".")[:2]), []).append(name)
for package, members in packages.items():
    forget(within(package))
    load(package)
    there = within(package)
    for name in members:
        if name not in there:
            load(name)
            forget(within(package) - there)
sys.exit(" ".join(failed) or 0)
"""
    done = run(code, *MODULES)
    assert done.returncode == 0, done.stderr


def test_what_is_promised_to_be_there_is_there() -> None:
    assert set(autoopt.__all__) <= set(dir(autoopt))
    for name in autoopt.__all__:
        assert getattr(autoopt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'chose'"):
        autoopt.chose  # noqa: B018
