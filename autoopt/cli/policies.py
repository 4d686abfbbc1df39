"""`autoopt policies`: what decides between optimizers, and how the budget is spent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from autoopt.policy import Policy


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("policies")(policies)


def policies(
    name: str = typer.Argument("", help="A shipped policy, or a file of your own, to explain."),
    as_json: bool = typer.Option(False, "--json", help="JSON: a list, or one policy."),
) -> None:
    """List the policies, or explain one."""
    from autoopt import policy

    if name:
        chosen = policy.load(name)
        if as_json:
            print(json.dumps(chosen.model_dump(mode="json", by_alias=True), indent=2))
        else:
            _explain(chosen)
        return
    found = policy.shipped()
    if as_json:
        print(json.dumps([one.model_dump(mode="json", by_alias=True) for one in found], indent=2))
        return
    for one in found:
        print(f"{one.name}\n  {one.explain.strip()}\n  Tries: {', '.join(one.candidates)}\n")
    print("`autoopt policies NAME` shows one whole; `autoopt profile --policy NAME` uses it.")


def _explain(policy: Policy) -> None:
    from autoopt.cli.tables import show
    from autoopt.errors import UsageError
    from autoopt.optim import registry

    print(f"{policy.name}: {policy.explain.strip()}\n")
    limits = policy.limits
    most = policy.max_optimizers
    for label, text in {
        "Objective": policy.objective.replace("_", " "),
        "Tie": f"within {100 * policy.tolerance:g} %, then the least {', then '.join(policy.tie_order)}",
        "Limits": f"memory {limits.memory or 'none'}, step time {limits.step_time or 'none'}",
        "Budget": f"{1 - policy.confirm:.0%} race, {policy.confirm:.0%} fresh seeds for the finalists",
        "At most": f"{most} optimizers" if most is not None else "as many optimizers as the budget allows",
        "Tuned too": "; ".join(f"{what} {words}" for what, words in policy.tune.words().items()),
        "No decay": ", ".join(policy.no_decay) or "(all parameters are decayed)",
    }.items():
        print(f"{label + ':':11}{text}")
    print()
    rows = []
    for name, candidate in policy.candidates.items():
        try:
            spec = registry.get(name)
        except UsageError as error:  # of a package that is not installed here
            rows.append((name, "", "", "", error.message))
            continue
        start, ranges = candidate.start(spec), candidate.ranges(spec)
        lr = ranges.pop("lr")
        others = ", ".join(f"{key} {value:g}" for key, value in start.items() if key != "lr")
        rows.append((name, f"{start['lr']:g}", f"{lr.low:g} .. {lr.high:g}", others, ", ".join(ranges)))
    show(("optimizer", "lr", "lr range", "start", "then tuned"), rows)
