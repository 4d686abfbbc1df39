"""The `autoopt` command: collects the commands, and is the one place where errors become exit codes."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import cast

import typer

from autoopt import __version__
from autoopt.errors import AutooptError

COMMANDS = (
    "profile",
    "memory",
    "check",
    "init",
    "show",
    "export",
    "snippet",
    "optimizers",
    "policies",
    "doctor",
    "serve",
    "submit",
    "jobs",
    "forget",
)
"""Modules of `autoopt.cli` in the order of the help. Each has `register(app)` and must be cheap to import."""

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

_ClickError = cast(
    "type[Exception]", next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
)
"""typer exports only subclasses of it, and newer versions carry click under a name of their own."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"autoopt {__version__}")
        raise typer.Exit


def make_app() -> typer.Typer:
    """The typer app with all commands."""
    # Without rich markup the help needs no rich, which is a third of its time.
    app = typer.Typer(
        name="autoopt",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def autoopt(
        version: bool = typer.Option(
            False, "--version", callback=_version, is_eager=True, help="Show the version."
        ),
    ) -> None:
        """Chooses and tunes the optimizer for your PyTorch model, inside a time budget."""

    for name in COMMANDS:
        import_module(f"autoopt.cli.{name}").register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits.

    Args:
        arguments: without the program's name; `sys.argv` unless given.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(given))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM is Ctrl-C from the first moment on, also while the user's file is being loaded."""
    raise KeyboardInterrupt


def run(arguments: list[str]) -> int:
    """Runs one command and returns the exit code; an error becomes a sentence and a way out.

    With --json among the arguments (before a `--`), an error is one JSON object on stdout:
    {"error": {"kind", "message", "hint", "exit_code"}}.
    """
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json = "--json" in own
    try:
        code = make_app()(args=arguments or ["--help"], prog_name="autoopt", standalone_mode=False)
        sys.stdout.flush()
    except AutooptError as error:
        _report(as_json, type(error).__name__, error.message, error.hint, error.exit_code)
        trace = getattr(error, "trace", "")
        if trace and not as_json:
            print(trace.rstrip(), file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED  # who pressed Ctrl-C knows; the command itself has said what is kept
    except BrokenPipeError:
        # The reader (head, a pager) has gone: what Python flushes at exit must not complain about it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except _ClickError as error:
        return _usage(error, as_json)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        hint = "This is a bug in autoopt; please report it with the traceback."
        if not as_json:
            traceback.print_exc()
        _report(as_json, "Bug", text, hint, 1)
        return 1
    return code if isinstance(code, int) else 0


def _usage(error: BaseException, as_json: bool) -> int:
    """A flag or command that typer refuses."""
    code = int(getattr(error, "exit_code", 2))
    message = str(getattr(error, "format_message", error.__str__)())
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "autoopt"
    _report(as_json, "UsageError", message, f"`{command} --help` lists what can be given.", code)
    return code


def _report(as_json: bool, kind: str, message: str, hint: str, code: int) -> None:
    if as_json:
        body = {"kind": kind, "message": message, "hint": hint, "exit_code": code}
        print(json.dumps({"error": body}, ensure_ascii=False))
        return
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(hint, file=sys.stderr)


if __name__ == "__main__":
    main()
