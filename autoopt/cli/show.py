"""`autoopt show`: the recommendation of a run, rendered again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("show")(show)


def show(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or its recommendation.yaml.")],
    as_json: Annotated[bool, typer.Option("--json", help="Nothing but one JSON object on stdout.")] = False,
) -> int:
    """Show a recommendation again."""
    from autoopt.report import recipe

    rec = recipe.load(folder)
    if as_json:
        import json

        from autoopt.files import plain

        print(json.dumps(plain(rec), ensure_ascii=False, allow_nan=False))
        return 0
    from autoopt.report import console

    console.show(rec, folder if folder.is_dir() else folder.parent)
    return 0
