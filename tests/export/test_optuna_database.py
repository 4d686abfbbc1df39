"""Studies that Optuna reads, and that its dashboard shows."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from autoopt.errors import RunError
from autoopt.export import export
from autoopt.records import Outcome
from tests.export import runs


def studies(path: Path) -> dict[str, optuna.Study]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    try:
        names = optuna.get_all_study_names(storage)
        found = {name: optuna.load_study(study_name=name, storage=storage) for name in names}
        for study in found.values():
            study.trials  # noqa: B018  (read while the database is open)
        return found
    finally:
        storage.remove_session()
        storage.engine.dispose()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database for all tests that read what an export wrote."""
    place = tmp_path_factory.mktemp("written")
    export(runs.write(place / "digits"), optuna=f"sqlite:///{place / 'study.db'}")
    return place / "study.db"


def test_optuna_loads_every_trial(written: Path) -> None:
    found, results = studies(written), runs.results()
    optimizers = list(dict.fromkeys(one.spec.optimizer for one in results))
    assert set(found) == {"digits", *(f"digits/{name}" for name in optimizers)}
    states = {"completed": TrialState.COMPLETE, "diverged": TrialState.PRUNED, "error": TrialState.FAIL}
    for trial, result in zip(found["digits"].trials, results, strict=True):
        assert trial.state is states[result.outcome]
        assert trial.value == result.loss
        assert trial.params["lr"] == result.spec.hyper["lr"]
        assert trial.params["optimizer"] == result.spec.optimizer
        assert trial.params["steps"] == trial.user_attrs["steps"] == result.spec.steps
        assert trial.user_attrs["stage"] == result.spec.stage
        assert trial.user_attrs["seed"] == result.spec.seed
        assert trial.user_attrs["seconds"] == result.seconds["total"]
        assert trial.user_attrs["outcome"] == result.outcome
        assert set(trial.intermediate_values.items()) <= set(result.curve)
        assert not result.curve or result.curve[-1] in trial.intermediate_values.items()
        assert trial.duration is not None
        assert trial.duration.total_seconds() == pytest.approx(3)
    best = min((r for r in results if r.outcome is Outcome.COMPLETED), key=lambda r: r.loss or 0)
    assert found["digits"].best_trial.user_attrs["trial"] == best.spec.id
    assert found["digits"].metric_names == ["validation loss"]


def test_ranges_are_the_policys_and_wider_where_a_trial_went_beyond(written: Path) -> None:
    found = studies(written)
    lr = found["digits/sgd"].trials[0].distributions["lr"]
    assert isinstance(lr, optuna.distributions.FloatDistribution)
    assert lr.log
    rates = [one.spec.hyper["lr"] for one in runs.results() if one.spec.optimizer == "sgd"]
    assert lr.low <= min(rates) <= max(rates) <= lr.high
    assert lr.high >= 1.0, "that is where the policy ends"
    # A single value is no parameter, and is told all the same.
    trial = found["digits/sgd"].trials[0]
    assert "weight_decay" not in trial.params
    assert trial.user_attrs["weight_decay"] == 0.03


def test_a_metric_to_maximise_is_the_objective(tmp_path: Path) -> None:
    told = runs.events()
    report = told[1].report  # type: ignore[union-attr]
    settings = report.settings.model_copy(update={"metric": ("accuracy", "max")})
    told[1] = told[1].model_copy(update={"report": report.model_copy(update={"settings": settings})})
    export(runs.write(tmp_path / "run", told), optuna=str(tmp_path / "study.db"))
    study = studies(tmp_path / "study.db")["run"]
    assert study.direction is optuna.study.StudyDirection.MAXIMIZE
    assert study.best_value == 0.97
    assert study.metric_names == ["accuracy"]


def test_a_running_trial_is_running(tmp_path: Path) -> None:
    folder = runs.write(tmp_path / "run", runs.events(ended=False, flying=True))
    (folder / ".holder").write_text(json.dumps({"pid": os.getpid(), "since": ""}))
    export(folder, optuna=str(tmp_path / "study.db"))
    assert studies(tmp_path / "study.db")["run"].trials[-1].state is TrialState.RUNNING
    (folder / ".holder").unlink()
    export(folder, optuna=str(tmp_path / "study.db"), overwrite=True)
    assert studies(tmp_path / "study.db")["run"].trials[-1].state is TrialState.FAIL


def test_a_second_export_is_refused_or_replaces_and_never_mixes(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    optuna.create_study(study_name="mine", storage=f"sqlite:///{path}").set_user_attr("a", 1)
    export(folder, optuna=str(path))
    before = path.read_bytes()
    with pytest.raises(RunError, match="has a study 'digits"):
        export(folder, optuna=str(path))
    assert path.read_bytes() == before
    export(folder, optuna=str(path), overwrite=True)
    export(folder, optuna=str(path), name="again")
    found = studies(path)
    assert found["mine"].user_attrs == {"a": 1}
    assert len(found["digits"].trials) == len(found["again"].trials) == len(runs.results())
    assert len(found) == 1 + 2 * (1 + len({r.spec.optimizer for r in runs.results()}))


def test_somebody_elses_study_is_never_replaced(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    optuna.create_study(study_name="digits/sgd", storage=f"sqlite:///{path}")
    with pytest.raises(RunError, match="no export of this name wrote"):
        export(folder, optuna=str(path), overwrite=True)
    assert set(studies(path)) == {"digits/sgd"}


def test_another_database_is_refused(folder: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other, other:
        other.execute("create table studies (name text)")
    before = (tmp_path / "other.db").read_bytes()
    with pytest.raises(RunError, match="of another program"):
        export(folder, optuna=str(tmp_path / "other.db"))
    assert (tmp_path / "other.db").read_bytes() == before
    with pytest.raises(RunError, match="cannot be used"):
        export(folder, optuna="no-such-dialect://somewhere")


def test_what_fails_in_the_middle_leaves_no_database(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("autoopt.export.optuna_database._common", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(folder, optuna=str(tmp_path / "study.db"))
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def _get(address: str) -> Any:
    deadline = time.monotonic() + 40
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.mark.long
def test_the_real_dashboard_shows_it(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard")
    export(folder, optuna=str(tmp_path / "study.db"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import sys; from optuna_dashboard._cli import main; sys.exit(main())"
    arguments = [f"sqlite:///{tmp_path / 'study.db'}", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        listed = _get(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        overall = next(one for one in listed if one["study_name"] == "digits")
        detail = _get(f"http://127.0.0.1:{port}/api/studies/{overall['study_id']}")
        assert len(detail["trials"]) == len(runs.results())
        assert {trial["state"] for trial in detail["trials"]} == {"Complete", "Pruned", "Fail"}
        assert {one["name"] for one in detail["intersection_search_space"]} >= {"optimizer", "lr", "steps"}
        _look(f"http://127.0.0.1:{port}/dashboard/studies/{overall['study_id']}")
    finally:
        server.kill()
        server.wait()


def _look(address: str) -> None:
    """The page draws the history and the curves."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        return
    # In a process of its own: Playwright's event loop must not stay in this one.
    code = """
import os, sys
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    browser = playwright.chromium.launch(executable_path=sys.argv[1], args=options)
    page = browser.new_page(viewport={"width": 1400, "height": 1500})
    page.goto(sys.argv[2])
    for title in ("Best Trial", "Timeline"):
        page.get_by_text(title, exact=False).first.wait_for(timeout=30000)
    page.locator(".scatterlayer .trace").nth(5).wait_for(state="attached", timeout=30000)
    browser.close()
"""
    subprocess.run([sys.executable, "-c", code, chromium, address], check=True, timeout=90)
