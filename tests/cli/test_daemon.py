"""From submit to result with nothing replaced: the daemon as a process, a real model, a restart in the middle."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoopt.cli.main import run
from tests.daemon.test_server import daemon

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits_mlp" / "model.py"
PATIENCE = 120.0


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


@pytest.mark.long(seconds=60)
def test_a_job_outlives_a_restart_and_ends_as_profile_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("AUTOOPT_HOME", str(home))
    monkeypatch.delenv("AUTOOPT_URL", raising=False)

    def told(*arguments: str) -> dict[str, Any]:
        run([*arguments, "--json"])
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    with daemon(home) as first:
        id_ = told("submit", str(EXAMPLE), "--budget", "30s", "--steps", "60", "--optimizers", "adamw,sgd")[
            "id"
        ]
        events = home / "jobs" / id_ / "out" / "events.jsonl"
        until(lambda: events.exists() and "trial_started" in events.read_text())
        assert first.end() == 0
        assert subprocess.run(["pgrep", "-f", id_], capture_output=True, check=False).stdout == b""
    with daemon(home) as second:
        assert run(["watch", id_, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["recommendation"]["optimizer"] in ("adamw", "sgd")
        assert (Path(found["folder"]) / "train.py").is_file()
        job = told("jobs")["jobs"][0]
        assert (job["state"], job["attempts"], job["deaths"]) == ("done", 2, 0)
        assert "run_resumed" in events.read_text()
        broken = tmp_path / "model.py"
        broken.write_text("def build_model():\n    raise ValueError('mine')\n")
        assert run(["submit", str(broken), "--wait", "--json"]) == 3
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["exit_code"] == 3
        id_ = told("submit", str(EXAMPLE), "--budget", "60s")["id"]
        until(lambda: told("jobs")["jobs"][0]["state"] == "running")
        assert told("cancel", id_)["state"] in ("cancelling", "cancelled")
        assert run(["watch", id_]) == 130
        assert second.end() == 0
