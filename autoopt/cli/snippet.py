"""`autoopt snippet`: a recommendation as code, for the kind of project that one has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

KINDS = "plain, lightning, transformers, accelerate, timm, hydra, torchtune or torchtitan"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("snippet")(snippet)


def snippet(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or its recommendation.yaml.")],
    kind: Annotated[str, typer.Option("--for", metavar="KIND", help=f"{KINDS}.")] = "plain",
    as_json: Annotated[bool, typer.Option("--json", help="Nothing but one JSON object on stdout.")] = False,
) -> int:
    """Print what to paste into a project to train with a result."""
    from autoopt.report import recipe, snippets

    made = snippets.snippet(recipe.load(folder), kind)
    if as_json:
        import json
        from dataclasses import asdict

        print(json.dumps(asdict(made), ensure_ascii=False))
    else:
        print(made.text, end="")
    return 0
