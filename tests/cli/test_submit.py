"""`autoopt submit`: what reaches the daemon, and what is printed."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoopt.cli.main import run
from autoopt.cli.profile import profile
from autoopt.cli.submit import submit
from autoopt.daemon.jobs import Options
from tests.daemon.listening import Listening, listening


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "model.py").write_text("x = 1\n")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv("AUTOOPT_URL", raising=False)
    with listening(tmp_path) as found:
        monkeypatch.setenv("AUTOOPT_HOME", str(found.home.path))
        yield found


def test_all_of_it_arrives(
    server: Listening, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWN", "1")
    monkeypatch.setenv("SECRET", "2")
    options = [
        "--steps",
        "7",
        "--budget",
        "90s",
        "--policy",
        "memory",
        "--limit",
        "memory=1GB",
        "--optimizers",
    ]
    options += ["adamw, sgd", "--device", "cpu", "--workers", "2", "--precision", "fp32", "--accumulate", "3"]
    options += [
        "--clip",
        "1.5",
        "--schedule",
        "wsd",
        "--warmup",
        "0.1",
        "--seed",
        "4",
        "--prior",
        "a",
        "--prior",
        "b",
    ]
    more = ["--priority", "5", "--cores", "1", "--name", "ü\n", "--key", "k", "--env", "OWN"]
    assert run(["submit", "model.py", *options, *more, "--json", "--", "--size", "9"]) == 0
    id_ = json.loads(capsys.readouterr().out)["id"]
    found = server.service.job(id_).submission
    assert found.options == Options(
        steps=7,
        budget="90s",
        policy="memory",
        limit="memory=1GB",
        optimizers=["adamw", "sgd"],
        device="cpu",
        workers=2,
        precision="fp32",
        accumulate=3,
        clip=1.5,
        schedule="wsd",
        warmup=0.1,
        seed=4,
        prior=["a", "b"],
    )
    assert (found.target, found.arguments) == ("model.py", ["--size", "9"])
    assert (found.priority, found.cores, found.name, found.key) == (5, 1, "ü\n", "k")
    assert (found.cwd, found.interpreter) == (str(tmp_path / "project"), sys.executable)
    assert found.environment["OWN"] == "1"
    assert "SECRET" not in found.environment
    assert run(["submit", "model.py", "--key", "k"]) == 0
    assert capsys.readouterr().out.strip() == id_


def test_submit_has_the_options_of_profile() -> None:
    of_profile = inspect.signature(profile).parameters
    of_submit = inspect.signature(submit).parameters
    assert set(of_profile) - set(of_submit) == {
        "out",
        "dry_run",
        "resume",
        "accept_changes",
        "checkpoint",
        "cluster",
        "cpus_per_trial",
        "gpus_per_trial",
        "daemon",
        "nproc",
        "quiet",
    }
    for name in set(of_profile) & set(of_submit) - {"prior", "device"}:  # a daemon has more devices
        assert of_profile[name] == of_submit[name]
    assert set(Options.model_fields) <= set(of_submit)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--env", "NOT_SET_HERE"],
        ["--steps", "0"],
        ["--steps", "5", "--epochs", "1"],
        ["--clip", "x"],
        ["--precision", "fp8"],
        ["--clip", "-1"],
    ],
)
def test_what_cannot_be_used_is_refused_here(
    arguments: list[str], server: Listening, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["submit", "model.py", *arguments]) == 2
    assert "error" in capsys.readouterr().err
    assert not server.service.found


def test_without_a_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTOOPT_HOME", str(tmp_path))
    assert run(["submit", "model.py"]) == 4
    assert "No daemon is running.\nStart one with `autoopt serve`." in capsys.readouterr().err
    assert run(["profile", "model.py", "--daemon", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "NoDaemon"


def test_to_a_daemon_elsewhere_the_project_is_uploaded(
    server: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTOOPT_URL", server.serving.url or "")
    assert run(["submit", "model.py"]) == 2
    assert "AUTOOPT_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("AUTOOPT_TOKEN", server.token)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project" / "data.txt").write_text("d")
    assert run(["submit", "project/model.py", "--json"]) == 0
    id_ = json.loads(capsys.readouterr().out)["id"]
    assert server.service.bundles[id_] == {"model.py": b"x = 1\n", "data.txt": b"d"}
    found = server.service.job(id_).submission
    assert (found.target, found.cwd, found.interpreter, found.environment) == ("model.py", None, None, {})
    assert run(["submit", "project/model.py", "--bundle", "project/", "--name", "again", "--json"]) == 0
    assert run(["submit", "project/model.py", "--bundle", "/usr", "--json"]) == 2
    assert run(["submit", "nowhere.py", "--json"]) == 3


@pytest.mark.parametrize("flag", [["--out", "x"], ["--resume"], ["--dry-run"], ["--accept-changes"]])
def test_profile_refuses_with_the_daemon_what_is_the_daemons(
    flag: list[str], server: Listening, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["profile", "model.py", "--daemon", *flag]) == 2
    assert f"{flag[0]} is not for a run of the daemon" in capsys.readouterr().err
    assert not server.service.found
