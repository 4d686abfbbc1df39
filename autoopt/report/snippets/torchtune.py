"""For torchtune's recipes: the blocks of their YAML, and what only a copy of the recipe can do.

A recipe builds `config.instantiate(cfg.optimizer, self._model.parameters())`: one group of all parameters. Its
scheduler component gets (optimizer, num_training_steps=, last_epoch=).
"""

from __future__ import annotations

from typing import Any

from autoopt.records import Recommendation
from autoopt.report.snippets import facts
from autoopt.report.snippets.pieces import groups_call, plain_parameters, shape
from autoopt.report.snippets.text import Snippet, as_yaml, call, comment, doc, keywords

_COSINE = "torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup"


def snippet(rec: Recommendation) -> Snippet:
    """YAML, with what it cannot express in comments, and the lines for a copied recipe."""
    settings = facts.settings_of(rec)
    config: dict[str, Any] = {}
    if not facts.keeps_optimizer(rec) or rec.workload.baseline.source == "default":
        target = rec.recommendation.class_.replace(":", ".")
        if facts.keeps_optimizer(rec):
            target = "torch.optim.AdamW"
        config["optimizer"] = {"_component_": target, **facts.call_arguments(rec.recommendation)}
    if not facts.keeps_schedule(rec) and facts.schedule_of(rec) == "cosine":
        config["lr_scheduler"] = {
            "_component_": _COSINE,
            "num_warmup_steps": rec.recommendation.warmup_steps,
        }
    config |= {"gradient_accumulation_steps": settings.accumulate}
    config |= {"clip_grad_norm": settings.clip} if not facts.second_order(rec) else {}
    differences = _differences(rec)
    lines = [comment(sentence) for sentence in differences]
    lines += [as_yaml(config).rstrip(), f"# {rec.recommendation.steps} steps: epochs times steps per epoch"]
    return Snippet("torchtune", "yaml", "\n".join([*lines, *_recipe(rec)]) + "\n", tuple(differences))


def _differences(rec: Recommendation) -> list[str]:
    found = []
    if facts.keeps_optimizer(rec) and rec.workload.baseline.source != "default":
        found.append(f"keep the {doc(rec.workload.baseline.optimizer)} that you have")
    elif not plain_parameters(rec) and not facts.keeps_optimizer(rec):
        found.append(
            "this decays biases, norms and embeddings too, which the trials did not: a recipe gives the optimizer "
            "no groups (see the copied recipe below)"
        )
    if facts.second_order(rec):
        found.append(
            "torchtune's recipes cannot train with second derivatives: their backward keeps no graph, "
            "and their step takes no closure"
        )
    if facts.has_modes(rec):
        found.append(
            "a recipe does not call optimizer.train() and optimizer.eval(), which this optimizer needs"
        )
    if facts.keeps_schedule(rec):
        found.append(f"keep your own {doc(rec.workload.baseline.schedule)}")
    elif facts.schedule_of(rec) != "cosine":
        found.append(f"torchtune has no schedule {facts.schedule_of(rec)}; the copied recipe below has")
    elif rec.recommendation.warmup_steps:
        found.append("torchtune's warm-up takes its first step with a rate of 0, one step behind the trials'")
    if facts.several_rates(rec):
        found.append("torchtune logs one learning rate and refuses several")
    return found


def _recipe(rec: Recommendation) -> list[str]:
    """What a copied recipe (`tune cp`) does instead, to take the steps of the trials."""
    if facts.keeps_optimizer(rec) or facts.second_order(rec):
        return []
    code = ["from autoopt.optim.groups import param_groups", "from autoopt.schedule import multiplier"]
    if not plain_parameters(rec):
        told = {key: value for key, value in groups_call(rec).items() if key != "lr"}
        arguments = ["self._model", "lr=cfg_optimizer.lr", *keywords(told)]
        code.append(call("groups = param_groups", arguments, indent=6))
        code.append("optimizer = config.instantiate(cfg_optimizer, groups)  # _setup_optimizer")
    if not facts.keeps_schedule(rec):
        code.append("lr_scheduler = torch.optim.lr_scheduler.LambdaLR(  # _setup_lr_scheduler")
        code.append(f"    self._optimizer, lambda step: {shape(rec)}")
        code.append(")")
    lines = [f"#     {line}" for text in code for line in text.splitlines()]
    return ["# to take the same steps as the trials, in a copy of the recipe (tune cp):", *lines]
