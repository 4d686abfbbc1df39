"""`autoopt forget`, on a daemon that serves."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoopt.cli.main import run
from autoopt.daemon.home import Home
from autoopt.daemon.jobs import ENDED, Job, Submission
from autoopt.daemon.limits import Limits
from autoopt.daemon.service import Service
from autoopt.daemon.snapshot import Snapshot
from autoopt.hardware.leases import Leases
from tests.daemon.daemons import until
from tests.daemon.listening import listening


def fails(job: Job, taken: Snapshot, folder: Path, *, resume: bool, device: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", "raise SystemExit(3)"]


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    (tmp_path / "model.py").write_text("x = 1\n")
    made = Service(
        Home(tmp_path / "home"),
        devices="cpu",
        command=fails,
        leases=Leases(tmp_path / "leases"),
        limits=Limits(free=0),
        say=lambda _: None,
    )
    monkeypatch.setenv("AUTOOPT_HOME", str(made.home.path))
    with listening(tmp_path, tcp=False, service=made):  # type: ignore[arg-type]
        yield made


def ended(service: Service) -> str:
    job = service.submit(Submission(target="model.py", cwd=str(service.home.path.parent)))
    until(lambda: service.job(job.id).state in ENDED and service.metrics()["guards"] == 0)
    return job.id


def test_jobs_are_forgotten_by_name_and_by_age(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = ended(service), ended(service)
    assert run(["forget"]) == 0
    assert "On the disk: 2 jobs, " in capsys.readouterr().out
    assert run(["forget", first]) == 0
    out = capsys.readouterr().out
    assert f"Forgot job {first}.\n1 job forgotten, freed " in out
    assert "Ended ones are kept 365 days, the newest 10000." in out
    assert run(["forget", "--older-than", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["jobs"] == []
    assert run(["forget", "--older-than", "0", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["jobs"], found["dry_run"], found["disk"]["jobs"]) == ([second], True, 1)
    assert service.home.job(second).exists()
    assert run(["forget", "--older-than", "0"]) == 0
    assert "1 job forgotten" in capsys.readouterr().out
    assert service.jobs() == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["abcdefghijkl"], 2, "There is no job 'abcdefghijkl'"),
        (["abcdefghijkl", "--older-than", "3"], 2, "not both"),
        (["--dry-run"], 2, "goes with --older-than"),
    ],
)
def test_mistakes_are_told(
    service: Service, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert run(["forget", *arguments]) == code
    assert message in capsys.readouterr().err
