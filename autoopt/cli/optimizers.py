"""`autoopt optimizers`: the table of what can be chosen from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from autoopt.optim.spec import OptimSpec


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("optimizers")(optimizers)


def optimizers(
    as_json: bool = typer.Option(False, "--json", help="One JSON list."),
    markdown: bool = typer.Option(False, "--markdown", help="The table of docs/optimizers.md."),
) -> None:
    """List the optimizers, their ranges, and which work here."""
    from autoopt.cli.tables import show
    from autoopt.optim import registry

    specs = [registry.get(name) for name in registry.names()]
    if as_json:
        print(json.dumps([_as_dict(spec, registry.why_unavailable(spec)) for spec in specs], indent=2))
        return
    if markdown:
        print(_markdown(specs))
        return
    show(
        ("name", "optimizer", "state", "learning rate", "needs", "here", "paper"),
        [
            (
                spec.name,
                spec.title,
                f"{spec.state_tensors:g}",
                f"{spec.space['lr'].low:g} .. {spec.defaults['lr']:g} .. {spec.space['lr'].high:g}",
                ", ".join(sorted(need.value for need in spec.needs)),
                registry.why_unavailable(spec) or "yes",
                spec.paper,
            )
            for spec in specs
        ],
    )


def _markdown(specs: list[OptimSpec]) -> str:
    lines = ["| name | optimizer | class | state tensors | learning rate | also searched | needs | source |"]
    lines.append("|---" * 8 + "|")
    for spec in specs:
        lr, source = spec.space["lr"], spec.paper
        if source[:4].isdigit():
            source = f"[arXiv {source}](https://arxiv.org/abs/{source})"
        cells = (
            f"`{spec.name}`",
            f"{spec.title}. {spec.summary}",
            f"`{spec.target}`",
            f"{spec.state_tensors:g}",
            f"{spec.defaults['lr']:g} in {lr.low:g} .. {lr.high:g}",
            ", ".join(f"{key} {spec.start()[key]:g}" for key in spec.space if key != "lr"),
            ", ".join(sorted(need.value for need in spec.needs)),
            source,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _as_dict(spec: OptimSpec, reason: str | None) -> dict[str, object]:
    return {
        "name": spec.name,
        "title": spec.title,
        "class": spec.target,
        "package": spec.package,
        "available": reason is None,
        "reason": reason,
        "state_tensors": spec.state_tensors,
        "needs": sorted(need.value for need in spec.needs),
        "start": spec.start(),
        "space": {k: {"low": r.low, "high": r.high, "scale": r.scale} for k, r in spec.space.items()},
        "paper": spec.paper,
        "summary": spec.summary,
    }
