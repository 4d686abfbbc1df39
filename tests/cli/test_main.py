"""The error boundary, and what the command line loads before it has to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

import autoopt
from autoopt.cli import main as cli
from autoopt.errors import BudgetError, UserCodeError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """`autoopt fail` raises the exception put into this list."""
    errors: list[BaseException] = []

    def make_app() -> typer.Typer:
        app = typer.Typer(pretty_exceptions_enable=False)

        @app.command()
        def fail(as_json: bool = typer.Option(False, "--json"), count: int = 0) -> None:
            raise errors[0]

        return app

    monkeypatch.setattr(cli, "make_app", make_app)
    return errors


def test_an_error_of_ours_is_a_sentence_a_way_out_and_its_exit_code(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(BudgetError("5 is no duration.", "Write 5m."))
    assert cli.run(["--count", "1"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: 5 is no duration.\nWrite 5m.\n")


def test_with_json_an_error_is_one_object(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(BudgetError("5 is no duration.", "Write 5m."))
    assert cli.run(["--json"]) == 2
    out, err = capsys.readouterr()
    body = {"kind": "BudgetError", "message": "5 is no duration.", "hint": "Write 5m.", "exit_code": 2}
    assert json.loads(out) == {"error": body}
    assert err == ""


def test_sigterm_is_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def make_app() -> typer.Typer:
        app = typer.Typer(pretty_exceptions_enable=False)

        @app.command()
        def load(count: int = 0) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

        return app

    monkeypatch.setattr(cli, "make_app", make_app)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main(["--count", "1"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == cli.INTERRUPTED


def test_the_users_own_trace_is_shown(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(UserCodeError("loss() raised", "Mend it.", trace="  model.py, line 3\n"))
    assert cli.run(["--count", "1"]) == 3
    assert capsys.readouterr().err == "error: loss() raised\nMend it.\n  model.py, line 3\n"


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "autoopt", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"autoopt {autoopt.__version__}\n"


def test_an_interrupt(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    failing.append(KeyboardInterrupt())
    assert cli.run(["--count", "1"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_what_nobody_expected_is_a_bug_with_its_traceback(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(ZeroDivisionError("by zero"))
    assert cli.run(["--count", "1"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "ZeroDivisionError: by zero" in err
    assert "bug in autoopt" in err


def test_a_commands_own_exit_code_is_kept(failing: list[BaseException]) -> None:
    failing.append(typer.Exit(7))
    assert cli.run(["--count", "1"]) == 7


def test_a_bad_flag(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--count", "many"]) == 2
    assert re.match(r"error: .*--count.*\n`autoopt --help`", capsys.readouterr().err)


def test_json_after_the_double_dash_belongs_to_the_users_function(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["no-such-command", "--", "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "no-such-command" in err


def test_an_unknown_command_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["polices", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert "policies" in error["message"]


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in cli.COMMANDS)


def test_the_help_lists_each_command_in_a_whole_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:")[2].splitlines()
    assert [line for line in listed if line.endswith("...")] == []


def test_the_help_names_what_an_option_takes_and_no_type_of_python(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in ("profile", "submit", "memory", "check"):
        assert cli.run([command, "--help"]) == 0
        options = capsys.readouterr().out.partition("Options:")[2]
        assert "--precision KIND" in options
        told = [line for line in options.splitlines() if "--socket" not in line]
        assert [line for line in told if re.search(r"--[a-z-]+ +<", line)] == []


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"autoopt {autoopt.__version__}\n"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == autoopt.__version__


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from autoopt.cli.main import run\n"
        "assert run(['--help']) == 0\n"
        "heavy = {'torch', 'optuna', 'pydantic', 'plotly', 'rich', 'numpy', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = [sys.executable, "-m", "autoopt.cli.main", "policies"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_the_package_names_what_it_exports() -> None:
    assert {"choose", "profile", "Recommendation"} <= set(dir(autoopt))
    assert autoopt.Recommendation.__name__ == "Recommendation"
    with pytest.raises(AttributeError, match="no attribute 'chose'"):
        autoopt.chose  # type: ignore[attr-defined]  # noqa: B018
