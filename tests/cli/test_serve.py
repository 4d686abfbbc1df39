"""`autoopt serve`: what is refused before anything starts, the unit, the login link."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from autoopt.cli.main import run
from tests.daemon.listening import listening


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOOPT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("arguments", "because"),
    [
        (["--http", "0.0.0.0:8470"], "other machines"),
        (["--http", "0.0.0.0:8470", "--name", "gpu1"], "other machines"),
        (["--http", "8470"], "no address"),
        (["--devices", "none"], "nothing to run a job on"),
        (["--cpus-per-trial", "2"], "there is no --cluster"),
        (["--http", "127.0.0.1:8470", "--tls-cert", "/nowhere"], "certificate and its key"),
        (["--tls-cert", "/nowhere", "--tls-key", "/nowhere"], "--http"),
    ],
)
def test_what_is_not_safe_is_refused(
    arguments: list[str], because: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", *arguments]) == 2
    assert because in capsys.readouterr().err
    assert not home.exists()


def test_the_unit_serves_the_same(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "serve",
        "--install",
        "--http",
        "127.0.0.1:9000",
        "--devices",
        "cpu",
        "--socket",
        "/run/x/a.sock",
    ]
    assert run([*arguments, "--json"]) == 0
    unit = Path(json.loads(capsys.readouterr().out)["unit"])
    assert unit == tmp_path / "config" / "systemd" / "user" / "autoopt.service"
    text = unit.read_text()
    words = [sys.executable, "-m", "autoopt", "serve", "--devices", "cpu"]
    words += ["--socket", "/run/x/a.sock", "--http", "127.0.0.1:9000"]
    assert "ExecStart=" + " ".join(f'"{word}"' for word in words) in text
    assert f'Environment="AUTOOPT_HOME={home}"' in text
    assert not home.exists()
    assert run(arguments) == 0
    assert "systemctl --user enable --now autoopt" in capsys.readouterr().out
    assert run([*arguments, "--keep", "inf", "--keep-jobs", "50"]) == 0
    assert '"--keep=inf" "--keep-jobs=50"' in unit.read_text()
    assert run(["serve", "--install", "--http", "0.0.0.0:9000"]) == 2


def test_the_unit_knows_the_cluster_and_where_its_token_lies_but_not_the_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/home/me/token")
    arguments = ["serve", "--install", "--cluster", "head:6379", "--gpus-per-trial", "0.5"]
    assert run([*arguments, "--json"]) == 0
    text = Path(json.loads(capsys.readouterr().out)["unit"]).read_text()
    assert '"--cluster" "head:6379" "--gpus-per-trial" "0.5"' in text
    assert "RAY_AUTH_TOKEN_PATH=/home/me/token" in text
    assert "secret" not in text
    assert run(arguments) == 0
    assert "RAY_AUTH_TOKEN is not in it" in capsys.readouterr().out


def test_a_login_link_of_the_daemon_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--link"]) == 4
    assert "Start one with `autoopt serve`" in capsys.readouterr().err
    with listening(tmp_path) as server:
        assert run(["serve", "--link", "--json"]) == 0
        url = json.loads(capsys.readouterr().out)["url"]
        assert url.startswith(f"{server.serving.url}/login/")
        assert server.get(url.removeprefix(server.serving.url or ""))[0] == 303


def test_a_daemon_without_a_page_has_no_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listening(tmp_path, tcp=False):
        assert run(["serve", "--link"]) != 0
        assert "autoopt serve --http" in capsys.readouterr().err


MISSING = """
import sys
for name in ("fastapi", "starlette", "uvicorn", "httpx2"):
    sys.modules[name] = None
from autoopt.cli.main import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("command", [["serve"], ["jobs"], ["submit", "model.py"], ["watch", "x"]])
def test_without_the_extra_the_line_that_mends_it_is_told(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MISSING, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "pip install 'autoopt[daemon]'" in done.stderr
    assert "Traceback" not in done.stderr
