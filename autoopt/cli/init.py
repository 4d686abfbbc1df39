"""`autoopt init`: writes a commented model.py that runs at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_DEFAULT = Path("model.py")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("init")(init)


def init(
    path: Annotated[Path, typer.Argument(help="The file to write, or a folder for model.py.")] = _DEFAULT,
    force: bool = typer.Option(False, "--force", help="Write over a file that is there."),
) -> None:
    """Write a commented model.py to start from; it runs as it is."""
    from importlib import resources

    from autoopt.errors import UsageError

    file = path / "model.py" if path.is_dir() else path
    if file.suffix != ".py":
        raise UsageError(f"{file} is not a Python file's name.", "Give a name like model.py.")
    if file.exists() and not force:
        raise UsageError(f"{file} is there already.", "Give another name, or --force to write over it.")
    # Not by the package `autoopt.workload`, whose import loads torch.
    text = resources.files("autoopt").joinpath("workload", "starter.py").read_text(encoding="utf-8")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.", "Give another place.") from error
    print(f"Wrote {file}. Next:\n\n  autoopt check {file}\n  autoopt profile {file} --budget 60s")
