"""For torchtitan's TOML, which has Adam and AdamW over one group, three decays and a warm-up of its own."""

from __future__ import annotations

from autoopt.records import Recommendation
from autoopt.report.snippets import facts
from autoopt.report.snippets.pieces import plain_parameters, shape
from autoopt.report.snippets.text import Snippet, comment

_NAMES = {"torch.optim:AdamW": "AdamW", "torch.optim:Adam": "Adam"}
_DECAYS = {"cosine": "cosine", "linear": "linear", "wsd": "linear"}


def snippet(rec: Recommendation) -> Snippet:
    """TOML where there is some, what it cannot express, and where torchtitan takes code instead."""
    differences = _differences(rec)
    lines = [comment(sentence) for sentence in differences]
    if (name := _name(rec)) is not None:
        lines += ["[optimizer]", f'name = "{name}"', *_numbers(rec), 'implementation = "foreach"', ""]
    if (kind := _decay(rec)) is not None:
        lines += ["[lr_scheduler]", f"warmup_steps = {rec.recommendation.warmup_steps}"]
        lines += ["decay_ratio = 0.2"] if facts.schedule_of(rec) == "wsd" else []
        lines += [f'decay_type = "{kind}"', ""]
    clip = facts.settings_of(rec).clip
    lines += ["[training]", f"steps = {rec.recommendation.steps}"]
    lines.append(f"max_norm = {'inf' if clip is None else repr(clip)}")
    return Snippet("torchtitan", "toml", "\n".join([*lines, *_code(rec)]) + "\n", tuple(differences))


def _name(rec: Recommendation) -> str | None:
    if facts.keeps_optimizer(rec):
        return "AdamW" if rec.workload.baseline.source == "default" else None
    return _NAMES.get(rec.recommendation.class_)


def _decay(rec: Recommendation) -> str | None:
    return None if facts.keeps_schedule(rec) else _DECAYS.get(facts.schedule_of(rec))


def _numbers(rec: Recommendation) -> list[str]:
    arguments = facts.call_arguments(rec.recommendation)
    numbers = {"lr": arguments["lr"]}
    numbers |= {f"beta{i}": beta for i, beta in enumerate(arguments.get("betas", ()), 1)}
    numbers |= {key: arguments[key] for key in ("eps", "weight_decay") if key in arguments}
    return [f"{key} = {value!r}" for key, value in numbers.items()]


def _differences(rec: Recommendation) -> list[str]:
    found = []
    if _name(rec) is None:
        what = "your own optimizer" if facts.keeps_optimizer(rec) else rec.recommendation.optimizer
        found.append(
            f"torchtitan's configuration has no {what}, only Adam and AdamW; it takes code, as below"
        )
    elif not plain_parameters(rec) and not facts.keeps_optimizer(rec):
        found.append(
            "this decays biases, norms and embeddings too, which the trials did not: torchtitan's optimizers have one "
            "group, unless code gives them others, as below"
        )
    if facts.second_order(rec):
        found.append("torchtitan's loop cannot train with second derivatives: its backward keeps no graph")
    if facts.has_modes(rec):
        found.append(
            "torchtitan does not call optimizer.train() and optimizer.eval(), which this optimizer needs"
        )
    if facts.keeps_schedule(rec):
        found.append("your own schedule cannot be told")
    elif _decay(rec) is None:
        found.append(f"torchtitan has no schedule {facts.schedule_of(rec)}")
    elif rec.recommendation.warmup_steps:
        found.append("torchtitan's warm-up and decay are not step for step those of the trials")
    return found


def _code(rec: Recommendation) -> list[str]:
    """The class that a `build_optimizers` of one's own returns."""
    if facts.keeps_optimizer(rec) or facts.second_order(rec):
        return []
    code = [
        "import autoopt",
        "from torchtitan.components.optimizer import OptimizersContainer",
        "rec = autoopt.Recommendation.load(...)  # this run's folder",
        "class Recommended(OptimizersContainer):",
        "    def __init__(self, model_parts):",
        "        self.model_parts = model_parts",
        "        self.optimizers = [rec.build(part)[0] for part in model_parts]",
        "        parameters = [p for part in model_parts for p in part.parameters()]",
        "        self._post_init([p for p in parameters if p.requires_grad], {})",
    ]
    if not facts.keeps_schedule(rec):
        code.append(f"# rate of a step: {shape(rec)} of autoopt.schedule")
    return [
        comment("in code: a build_optimizers of your own (TrainSpec) that returns"),
        *(f"#     {line}" for line in code),
    ]
