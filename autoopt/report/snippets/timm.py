"""For timm's train.py, or a script with timm's factories.

Arguments exist for optimizers that timm takes from torch, as its own of the same name take other steps. Its schedules
warm up otherwise than the trials did, and its rule of what is not decayed knows no embeddings, so the code comes too.
"""

from __future__ import annotations

import math

from autoopt.records import Recommendation
from autoopt.report.snippets import facts
from autoopt.report.snippets.pieces import (
    Pieces,
    constructor_arguments,
    groups_call,
    import_block,
    pieces,
    shape,
)
from autoopt.report.snippets.text import Snippet, call, comment, keywords, literal

TABLE: dict[str, str] = {
    "torch.optim:Adagrad": "adagrad",
    "torch.optim:Adam": "adam",
    "torch.optim:AdamW": "adamw",
    "torch.optim:NAdam": "nadam",
    "torch.optim:RAdam": "radam",
    "torch.optim:RMSprop": "rmsprop",
    "torch.optim:SGD": "sgd",
}
"""Class -> timm's name, where timm's optimizer is that very class."""


def snippet(rec: Recommendation) -> Snippet:
    """Arguments of train.py where there are some, and the code that takes the same steps as the trials."""
    differences: list[str] = []
    lines: list[str] = []
    if arguments := train_arguments(rec, differences):
        lines.append(comment("arguments of timm's train.py:"))
        lines += [f"#     {line}" for line in arguments]
        lines += [comment(f"they differ from the trials: {sentence}") for sentence in differences]
        lines.append("#")
        lines.append(comment("the code that takes the same steps, in the place of train.py's factories:"))
    else:
        lines += [comment(sentence) for sentence in differences]
    return Snippet("timm", "python", "\n".join(lines + _code(rec)) + "\n", tuple(differences))


def train_arguments(rec: Recommendation, differences: list[str]) -> list[str]:
    """Arguments of train.py, a line a subject; none where it lacks the optimizer or the schedule.

    What they cannot express is added to `differences`.
    """
    name = _name(rec)
    if name is None:
        what = "your own optimizer" if facts.keeps_optimizer(rec) else rec.recommendation.optimizer
        differences.append(f"timm's train.py has no argument for {what} as the trials had it; take the code")
        return []
    if facts.keeps_schedule(rec) or facts.schedule_of(rec) != "cosine" or facts.several_rates(rec):
        differences.append(
            "timm's train.py has no arguments for this schedule or for several learning rates; take the code"
        )
        return []
    if (epochs := _epochs(rec)) is None:
        differences.append(
            "train.py counts in epochs, and the length of one is not known here; take the code"
        )
        return []
    differences += _differences(rec, *epochs)
    return [*_optimizer_arguments(rec, name), *_schedule_arguments(rec, *epochs), *_loop_arguments(rec)]


def _name(rec: Recommendation) -> str | None:
    if facts.keeps_optimizer(rec):
        return None
    return TABLE.get(rec.recommendation.class_)


def _optimizer_arguments(rec: Recommendation, name: str) -> list[str]:
    arguments = facts.call_arguments(rec.recommendation)
    line = f"--opt {name} --lr {arguments.pop('lr')!r} --weight-decay {arguments.pop('weight_decay', 0.0)!r}"
    if "betas" in arguments:
        line += " --opt-betas " + " ".join(map(repr, arguments.pop("betas")))
    for key, flag in (("eps", "--opt-eps"), ("momentum", "--momentum")):
        if key in arguments:
            line += f" {flag} {arguments.pop(key)!r}"
    rest = " ".join(f"{key}={value!r}" for key, value in arguments.items())
    return [line, f"--opt-kwargs {rest}"] if rest else [line]


def _epochs(rec: Recommendation) -> tuple[float, float] | None:
    """Epochs of the run, and of its warm-up."""
    batches = rec.workload.batches_per_epoch
    if not batches:
        return None
    steps = batches / rec.settings.accumulate
    return rec.recommendation.steps / steps, rec.recommendation.warmup_steps / steps


def _schedule_arguments(rec: Recommendation, epochs: float, warm: float) -> list[str]:
    rate = facts.call_arguments(rec.recommendation)["lr"]
    first = rate / max(1, rec.recommendation.warmup_steps)
    return [
        f"--sched cosine --sched-on-updates --epochs {math.ceil(epochs)} --warmup-epochs {round(warm)} "
        f"--warmup-lr {first:.4g} --min-lr 0 --cooldown-epochs 0"
    ]


def _loop_arguments(rec: Recommendation) -> list[str]:
    settings = facts.settings_of(rec)
    line = [f"--batch-size {rec.workload.samples_per_batch}"] if rec.workload.samples_per_batch else []
    line += [f"--grad-accum-steps {settings.accumulate}"] if settings.accumulate > 1 else []
    line += [f"--clip-grad {settings.clip!r}"] if settings.clip is not None else []
    line += ["--amp"] if settings.precision != "fp32" else []
    line += ["--amp-dtype bfloat16"] if settings.precision == "bf16" else []
    return [" ".join(line)] if line else []


def _differences(rec: Recommendation, epochs: float, warm: float) -> list[str]:
    found = ["embeddings are decayed unless the model's no_weight_decay() names them"]
    if facts.keeps_groups(rec) or tuple(rec.recommendation.no_decay) != facts.DEFAULT_NO_DECAY:
        found = ["the parameter groups of the trials are not train.py's"]
    if not math.isclose(epochs, round(epochs)):
        found.append(f"the run is {epochs:.4g} epochs long, and train.py takes whole ones")
    if rec.recommendation.warmup_steps:
        found.append(
            f"the trials warm up for {warm:.3g} epochs, and train.py takes whole ones; "
            "timm's cosine begins with the warm-up and not after it"
        )
    return found


def _code(rec: Recommendation) -> list[str]:
    parts = pieces(rec)
    name = _name(rec)
    own_schedule = parts.own_schedule
    timm = [] if name is None else ["from timm.optim import create_optimizer_v2"]
    timm += [] if own_schedule else ["from timm.scheduler.scheduler import Scheduler"]
    lines = [import_block(parts, "import torch", *timm), *parts.groups]
    if facts.several_rates(rec) and parts.groups:
        lines += [
            "for group in groups:  # timm's schedulers multiply by it, and the rates hold it already",
            '    del group["lr_scale"]',
        ]
    lines += parts.optimizer if name is None else _factory(rec, name, parts)
    if own_schedule:
        return [*lines, *parts.scheduler]
    return [
        *lines,
        "",
        "",
        "class TrialSchedule(Scheduler):",
        "    def _get_lr(self, t):",
        f"        share = {shape(rec, 't')}",
        "        return [share * base for base in self.base_values]",
        "",
        "",
        'lr_scheduler = TrialSchedule(optimizer, "lr", t_in_epochs=False)',
        "lr_scheduler.step_update(0)  # train.py goes on with it after each step",
        *_loop_comments(rec),
    ]


def _factory(rec: Recommendation, name: str, parts: Pieces) -> list[str]:
    _, values = constructor_arguments(rec, "model")
    groups = "groups"
    if not parts.groups:
        groups = "model.parameters()"
        decay = groups_call(rec).get("weight_decay")
        values |= {} if decay is None else {"weight_decay": decay}
    return [call("optimizer = create_optimizer_v2", [groups, f"opt={literal(name)}", *keywords(values)])]


def _loop_comments(rec: Recommendation) -> list[str]:
    lines = []
    if facts.second_order(rec):
        lines.append(
            comment(
                "train.py's backward has to keep its graph: with optimizer.graph_context() around loss and "
                "loss.backward(create_graph=optimizer.create_graph), and without --clip-grad"
            )
        )
    if facts.has_modes(rec):
        lines.append(
            comment("optimizer.train() before training, optimizer.eval() before validation and saving")
        )
    return lines
