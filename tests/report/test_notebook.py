"""Progress in a notebook: with a made-up IPython what is sent, with a real kernel what a reader sees."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from autoopt.records import PlanMade, RunEnded, TrialFinished, TrialStarted, WorkloadLoaded
from autoopt.report import console, notebook
from autoopt.session import Silent
from autoopt.trials.runner import Progress
from tests.export import runs
from tests.report import factory

ROOT = Path(__file__).resolve().parents[2]


class Shell:
    """What IPython knows of the process it runs in."""

    def __init__(self, kernel: object) -> None:
        self.kernel = kernel


class Handle:
    """A display that remembers."""

    def __init__(self, first: dict[str, str]) -> None:
        self.shown = [first]

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.shown.append(data)


@pytest.fixture
def handles(monkeypatch: pytest.MonkeyPatch) -> list[Handle]:
    """A kernel's IPython, and the displays that were made in it."""
    made: list[Handle] = []

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        made.append(Handle(data))
        return made[-1]

    module: Any = types.ModuleType("IPython")
    module.get_ipython = lambda: Shell(object())
    module.display = types.SimpleNamespace(display=display)
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setattr(notebook, "_PAUSE", 0.0)
    return made


def test_it_is_a_notebook_only_where_a_kernel_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not notebook.inside()
    assert "IPython" not in sys.modules
    for shell, expected in ((None, False), (Shell(None), False), (Shell(object()), True)):
        module: Any = types.ModuleType("IPython")
        module.get_ipython = lambda shell=shell: shell
        monkeypatch.setitem(sys.modules, "IPython", module)
        assert notebook.inside() is expected


def test_one_display_is_brought_up_to_date(handles: list[Handle]) -> None:
    results = [one for one in runs.results() if one.loss is not None][:2]
    with console.observer() as view:
        view.event(runs.started())
        view.event(WorkloadLoaded(at=0.0, report=factory.workload(warnings=["<b>odd</b> data"])))
        view.event(PlanMade(at=0.0, plan=factory.plan()))
        view.event(TrialStarted(at=0.0, spec=results[0].spec, worker=0))
        view.progress(Progress(worker=0, trial=results[0].spec.id, step=94, steps=188, loss=1.5))
        view.tick(20.0)
        html = handles[0].shown[-1]["text/html"]
        assert "94/188" in html
        assert "loss 1.5" in html
        assert handles[0].shown[-1]["text/plain"].endswith("59 trials  40 s left")
        view.event(TrialFinished(at=0.0, result=results[0]))
        view.event(RunEnded(at=0.0, how="finished", spent_seconds=55.0))
    assert len(handles) == 1
    last = handles[0].shown[-1]
    assert last["text/plain"].startswith("finished  1 trial  after 55 s  best 0.")
    assert "94/188" not in last["text/html"]
    assert "&lt;b&gt;odd&lt;/b&gt; data" in last["text/html"]
    assert "the plan" in last["text/html"]


def test_updates_are_as_many_as_a_screen_shows(
    handles: list[Handle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "_PAUSE", 1000.0)
    with console.observer() as view:
        for second in range(100):
            view.tick(float(second))
    assert len(handles[0].shown) == 2, "the first, and the last"


def test_quiet_shows_nothing(handles: list[Handle]) -> None:
    with console.observer(quiet=True) as view:
        assert isinstance(view, Silent)
    assert handles == []


EXECUTE = """
import json, sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout=240, resources={"metadata": {"path": sys.argv[2]}}).execute()
print(json.dumps([[dict(out) for out in cell.get("outputs", [])] for cell in notebook.cells]))
"""
INTERRUPT = '''
import sys, time
from queue import Empty
from jupyter_client.manager import start_new_kernel
CODE = """
import torch, autoopt
data = [(torch.randn(8, 4), torch.randn(8, 1)) for _ in range(8)]
autoopt.choose(
    lambda: torch.nn.Linear(4, 1), data, lambda m, b: (m(b[0]) - b[1]).square().mean(),
    val=data, steps=40, budget="200s", optimizers=["sgd"],
)
"""
manager, client = start_new_kernel(startup_timeout=120)
try:
    asked = client.execute(CODE)
    interrupted, deadline = False, time.monotonic() + 150
    while time.monotonic() < deadline:
        message = client.get_iopub_msg(timeout=100)
        kind, content = message["msg_type"], message["content"]
        plain = content.get("data", {}).get("text/plain", "")
        if not interrupted and "best" in plain and kind == "update_display_data":
            manager.interrupt_kernel()
            interrupted = True
        if kind == "error":
            print("error", content["ename"])
        if kind == "execute_result":
            print("result", "stopped early" in content["data"]["text/html"], "<svg" in content["data"]["text/html"])
        if kind == "update_display_data" and plain.startswith("interrupted"):
            print("progress says interrupted")
        if kind == "status" and content["execution_state"] == "idle" and message["parent_header"].get("msg_id") == asked:
            break
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
'''


def in_a_process(code: str, *arguments: object) -> str:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_the_example_runs_in_a_real_kernel() -> None:
    import json

    told = in_a_process(EXECUTE, ROOT / "examples" / "notebook.ipynb", ROOT / "examples")
    _, setup, chosen, _, trained = json.loads(told)
    assert setup == []
    progress, result = chosen
    assert progress["output_type"] == "display_data"
    assert progress["data"]["text/plain"].startswith("finished")
    assert result["output_type"] == "execute_result"
    html = "".join(result["data"]["text/html"])
    assert "autoopt-answer" in html
    assert "adamw" in html
    right = int(trained[0]["text"].split()[0])
    assert right > 400, "of 597: chance alone gives 60"


@pytest.mark.long
def test_interrupting_the_cell_keeps_the_best_so_far() -> None:
    said = in_a_process(INTERRUPT).splitlines()
    assert "progress says interrupted" in said
    assert said[-1] == "result True True"
    assert not any(line.startswith("error") for line in said)
