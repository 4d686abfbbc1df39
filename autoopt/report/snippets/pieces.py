"""The statements that make `optimizer` and `scheduler`, which each kind of Python project puts in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autoopt.records import Recommendation
from autoopt.report.snippets import facts
from autoopt.report.snippets.text import call, doc, keywords, literal


@dataclass(frozen=True)
class Pieces:
    """Lines of Python; `scheduler` is only a comment where the user's own schedule is kept (`own_schedule`).

    `imports` are autoopt's, `outside` those of another package.
    """

    outside: tuple[str, ...]
    imports: tuple[str, ...]
    groups: tuple[str, ...]
    optimizer: tuple[str, ...]
    scheduler: tuple[str, ...]
    own_schedule: bool

    @property
    def statements(self) -> tuple[str, ...]:
        """All that makes the two, imports left out."""
        return (*self.groups, *self.optimizer, *self.scheduler)


def pieces(rec: Recommendation, model: str = "model", indent: int = 0) -> Pieces:
    """The statements, over the expression `model`, for lines that will be indented by `indent` columns."""
    if facts.keeps_optimizer(rec):
        imports, groups, optimizer = _own(rec, model, indent)
    else:
        imports, groups, optimizer = _from_table(rec, model, indent)
    steps = rec.recommendation.steps
    if facts.keeps_schedule(rec):
        own = doc(rec.workload.baseline.schedule)
        scheduler = [f"# and your own {own} around it, over {steps} steps"]
    else:
        imports = [*imports, "from autoopt.schedule import multiplier"]
        scheduler = [
            call(
                "scheduler = torch.optim.lr_scheduler.LambdaLR",
                ["optimizer", f"lambda step: {shape(rec)}"],
                indent=indent,
            )
        ]
    return Pieces(
        tuple(line for line in imports if not line.startswith("from autoopt.")),
        tuple(sorted(line for line in imports if line.startswith("from autoopt."))),
        tuple(groups),
        tuple(optimizer),
        tuple(scheduler),
        facts.keeps_schedule(rec),
    )


def import_block(parts: Pieces, *others: str) -> str:
    """All imports, those of other packages first, as formatters have them; ends in a new line."""
    outside = sorted([*others, *parts.outside], key=lambda line: (line.startswith("from"), line))
    return "\n".join([*outside, *(["", *parts.imports] if parts.imports else [])]) + "\n"


def shape(rec: Recommendation, step: str = "step") -> str:
    """The schedule as an expression: the multiple of the base rate at `step`, counted from 0."""
    choice, kind = rec.recommendation, literal(facts.schedule_of(rec))
    return f"multiplier({kind}, {step}, {choice.steps}, warmup_steps={choice.warmup_steps})"


def class_name(rec: Recommendation) -> str:
    """The optimizer's class as the statements call it."""
    module, _, name = rec.recommendation.class_.partition(":")
    return f"torch.optim.{name}" if module == "torch.optim" else name


def constructor_arguments(rec: Recommendation, model: str) -> tuple[dict[str, str], dict[str, Any]]:
    """What the constructor is told beside the groups: code by name, and values by name.

    As `optim.build` does, the groups carry the weight decay. A second-order optimizer clips by itself and has to know
    the model, as `training.second_order` tells it.
    """
    arguments = facts.call_arguments(rec.recommendation)
    arguments.pop("weight_decay", None)
    if not facts.second_order(rec):
        return {}, arguments
    clip = facts.settings_of(rec).clip
    return {"module": model}, arguments | ({"max_grad_norm": clip} if clip else {})


def groups_call(rec: Recommendation) -> dict[str, Any]:
    """Keyword arguments of `optim.groups.param_groups`."""
    arguments = facts.call_arguments(rec.recommendation)
    told: dict[str, Any] = {"lr": arguments["lr"]}
    if "weight_decay" in arguments:
        told["weight_decay"] = arguments["weight_decay"]
    if tuple(rec.recommendation.no_decay) != facts.DEFAULT_NO_DECAY:
        told["no_decay"] = tuple(rec.recommendation.no_decay)
    return told


def plain_parameters(rec: Recommendation) -> bool:
    """One group of all parameters is what was trained, and torch's own class needs no other."""
    choice = rec.recommendation
    scaled = any(group.lr_scale != 1 or group.decay_scale != 1 for group in choice.groups)
    return not scaled and not facts.keeps_groups(rec) and choice.class_.startswith("torch.")


def _own(rec: Recommendation, model: str, indent: int) -> tuple[list[str], list[str], list[str]]:
    baseline = rec.workload.baseline
    if baseline.source == "default":
        arguments = [f"{model}.parameters()", *keywords(facts.call_arguments(rec.recommendation))]
        line = call("optimizer = torch.optim.AdamW", arguments, indent=indent)
        return [], [], [line]
    lines = [f"optimizer = ...  # your own {doc(baseline.optimizer)}, as configure_optimizers makes it"]
    rate, present = rec.recommendation.hyper.get("lr"), baseline.hyper.get("lr")
    if rate and present and rate != present:
        lines += ["for group in optimizer.param_groups:", f'    group["lr"] *= {rate!r} / {present!r}']
    return [], [], lines


def _from_table(rec: Recommendation, model: str, indent: int) -> tuple[list[str], list[str], list[str]]:
    module, _, name = rec.recommendation.class_.partition(":")
    imports = [] if module == "torch.optim" else [f"from {module} import {name}"]
    code, values = constructor_arguments(rec, model)
    if plain_parameters(rec):
        whole = facts.call_arguments(rec.recommendation)
        told = [f"{model}.parameters()", *keywords(whole)]
        return imports, [], [call(f"optimizer = {class_name(rec)}", told, indent=indent)]
    groups = []
    told = [model, *keywords(groups_call(rec))]
    if facts.keeps_groups(rec):
        groups.append("yours = ...  # the optimizer you have today: its groups are kept")
        told.append("user=yours")
    groups.append(call("groups = param_groups", told, indent=indent))
    rest = [f"{key}={value}" for key, value in code.items()]
    arguments = ["groups", *keywords(values), *rest]
    imports.append("from autoopt.optim.groups import param_groups")
    return imports, groups, [call(f"optimizer = {class_name(rec)}", arguments, indent=indent)]
