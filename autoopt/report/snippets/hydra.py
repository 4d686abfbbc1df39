"""For projects configured with Hydra: a `_target_` for each of optimizer, groups and schedule."""

from __future__ import annotations

from typing import Any

from autoopt.records import Recommendation
from autoopt.report.snippets import facts
from autoopt.report.snippets.pieces import constructor_arguments, groups_call, plain_parameters
from autoopt.report.snippets.text import Snippet, as_yaml, comment, doc


def snippet(rec: Recommendation) -> Snippet:
    """YAML, and in comments the lines of code that put its parts together."""
    config: dict[str, Any] = {}
    lines: list[str] = []
    differences: list[str] = []
    if _own_optimizer(rec):
        differences.append(_keep(rec))
    else:
        config |= _optimizer(rec)
    if facts.keeps_schedule(rec):
        own = doc(rec.workload.baseline.schedule)
        differences.append(f"your own {own} stays, over {rec.recommendation.steps} steps")
    else:
        config["scheduler"] = _scheduler(rec)
    lines += [comment(sentence) for sentence in differences]
    text = "\n".join([*lines, as_yaml(config).rstrip() if config else "", *_code(rec, config)])
    return Snippet("hydra", "yaml", text.strip() + "\n", tuple(differences))


def _own_optimizer(rec: Recommendation) -> bool:
    return facts.keeps_optimizer(rec) and rec.workload.baseline.source != "default"


def _keep(rec: Recommendation) -> str:
    rate, present = rec.recommendation.hyper.get("lr"), rec.workload.baseline.hyper.get("lr")
    told = f"keep the {doc(rec.workload.baseline.optimizer)} that you have"
    return told if not rate or rate == present else f"{told}, with every lr times {rate!r} / {present!r}"


def _optimizer(rec: Recommendation) -> dict[str, Any]:
    """The optimizer; and the groups, whose rate is written once, by an interpolation beside it."""
    # `_convert_`: lists stay lists, so that a checkpoint holds nothing of OmegaConf's.
    head = {
        "_target_": rec.recommendation.class_.replace(":", "."),
        "_partial_": True,
        "_convert_": "all",
    }
    if facts.keeps_optimizer(rec):
        head["_target_"] = "torch.optim.AdamW"
        return {"optimizer": head | facts.call_arguments(rec.recommendation)}
    if plain_parameters(rec):
        return {"optimizer": head | facts.call_arguments(rec.recommendation)}
    _, values = constructor_arguments(rec, "model")
    groups = {
        "_target_": "autoopt.optim.groups.param_groups",
        "_partial_": True,
        "_convert_": "all",
        **groups_call(rec),
        "lr": "${..optimizer.lr}",
    }
    return {"optimizer": head | values, "param_groups": groups}


def _scheduler(rec: Recommendation) -> dict[str, Any]:
    choice = rec.recommendation
    return {
        "_target_": "torch.optim.lr_scheduler.LambdaLR",
        "_partial_": True,
        "lr_lambda": {
            "_target_": "autoopt.schedule.multiplier",
            "_partial_": True,
            "_args_": [facts.schedule_of(rec)],
            "total": choice.steps,
            "warmup_steps": choice.warmup_steps,
        },
    }


def _code(rec: Recommendation, config: dict[str, Any]) -> list[str]:
    code = ["from hydra.utils import instantiate"]
    parameters = "model.parameters()"
    if "param_groups" in config:
        own = ", user=yours" if facts.keeps_groups(rec) else ""
        code.append(f"groups = instantiate(cfg.param_groups)(model{own})")
        parameters = "groups"
    if "optimizer" in config:
        told, _ = constructor_arguments(rec, "model")
        rest = "".join(f", {key}={value}" for key, value in told.items())
        code.append(f"optimizer = instantiate(cfg.optimizer)({parameters}{rest})")
    if "scheduler" in config:
        code.append("scheduler = instantiate(cfg.scheduler)(optimizer)")
    lines = ["# in the code (self for model in a LightningModule):", *(f"#     {line}" for line in code)]
    return lines + [comment(sentence) for sentence in _loop(rec)]


def _loop(rec: Recommendation) -> list[str]:
    settings = facts.settings_of(rec)
    said = [f"{rec.recommendation.steps} steps, the scheduler stepped after each"]
    if facts.keeps_groups(rec):
        said.append("yours is the optimizer you have today: its groups are kept")
    if facts.second_order(rec):
        said.append("a step takes the loss and no backward: optimizer.step(lambda: loss(model, batch))")
    else:
        said.append(
            "without clipping the gradient"
            if settings.clip is None
            else f"the gradient is clipped to a norm of {settings.clip!r} before each step"
        )
    if facts.has_modes(rec):
        said.append("optimizer.train() before training, optimizer.eval() before validation and saving")
    return said
