"""The recommendation as code: five lines to paste, and the whole of train.py."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from autoopt import options
from autoopt.errors import UsageError
from autoopt.optim import registry
from autoopt.optim.spec import Need
from autoopt.records import BASELINE, Choice, Recommendation

OUR_LABELS = frozenset({"matrices", "weights", "no decay"})
"""Labels that `optim.groups.split` gives where the user has no groups of their own."""
DEFAULT_NO_DECAY = ("bias", "norm", "embedding")
"""What `split` leaves without weight decay unless told otherwise."""
_WIDTH = 79


def call_arguments(choice: Choice) -> dict[str, Any]:
    """Constructor arguments as Python has them: sequences, lists in YAML, are tuples."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in choice.arguments.items()}


def target_arguments(rec: Recommendation) -> list[str]:
    """What followed `--` on the command line."""
    return [str(item) for item in rec.provenance.get("arguments", [])]


def keeps_optimizer(rec: Recommendation) -> bool:
    """The baseline was chosen: the user's own optimizer, or AdamW at 1e-3 (with its rate changed, perhaps)."""
    return rec.recommendation.optimizer == BASELINE


def keeps_groups(rec: Recommendation) -> bool:
    """The user's own parameter groups are kept: several, or fewer parameters than the model has."""
    if keeps_optimizer(rec) or rec.workload.baseline.source != "configure_optimizers":
        return False
    groups = rec.recommendation.groups
    whole = sum(group.parameters for group in groups) == rec.workload.trainable
    return not whole or any(group.label not in OUR_LABELS for group in groups)


def keeps_schedule(rec: Recommendation) -> bool:
    """The user's own scheduler is kept."""
    return rec.recommendation.schedule == "yours" and rec.workload.baseline.schedule is not None


def second_order(rec: Recommendation) -> bool:
    """The optimizer differentiates twice: it takes the loss as a closure, as `training.train` gives it."""
    own = keeps_optimizer(rec)
    name = rec.workload.baseline.registry_name if own else rec.recommendation.optimizer
    if name is None:
        return False
    spec = registry.get(name)
    return Need.SECOND_ORDER in spec.needs and spec.target.startswith("autoopt.")


def class_name(rec: Recommendation) -> str:
    """The optimizer's name in the table, also where it is the user's own; its class where the table lacks it."""
    base = rec.workload.baseline
    return (base.registry_name or base.optimizer) if keeps_optimizer(rec) else rec.recommendation.optimizer


def rate(rec: Recommendation) -> float | None:
    """The learning rate, where it is known."""
    choice = rec.recommendation
    found = choice.hyper.get("lr", choice.arguments.get("lr"))
    return None if found is None else float(found)


def samples(rec: Recommendation) -> int | None:
    """That an optimizer step sees, where they could be counted."""
    seen = rec.recommendation.effective_batch
    return None if seen is None else seen.samples


def schedule_of(rec: Recommendation) -> str:
    """The kind for `schedule.multiplier`; as in trials, "yours" without a scheduler of theirs is cosine."""
    return "cosine" if rec.recommendation.schedule == "yours" else rec.recommendation.schedule


def snippet(rec: Recommendation) -> str:
    """The lines to paste into a training script that has torch and a `model`.

    They build what `Recommendation.build` builds; the scheduler is stepped after the optimizer.
    """
    choice = rec.recommendation
    lines = _own_lines(rec) if keeps_optimizer(rec) else _table_lines(rec)
    if keeps_schedule(rec):
        lines.append(
            f"# and your own {_doc(rec.workload.baseline.schedule)} around it, over {choice.steps} steps"
        )
    else:
        shape = f'multiplier("{schedule_of(rec)}", step, {choice.steps}, warmup_steps={choice.warmup_steps})'
        lines.insert(sum("import" in line for line in lines), "from autoopt.schedule import multiplier")
        lines.append(
            _call("scheduler = torch.optim.lr_scheduler.LambdaLR", f"optimizer, lambda step: {shape}")
        )
    if options.CLIP in choice.hyper:
        norm = choice.hyper[options.CLIP]
        call = f"torch.nn.utils.clip_grad_norm_(model.parameters(), {norm!r})"
        lines.append(f"# before each optimizer.step(): {call}" if norm else "# without clipping the gradient")
    if options.BATCH in choice.hyper:
        count = options.applied(choice.hyper, rec.settings).accumulate
        lines.append(f"# each step on {count} batches of yours: each loss / {count}, and a backward for each")
    return "\n".join(lines) + "\n"


def script(rec: Recommendation, folder: str | Path, target: str | None = None) -> str:
    """The text of train.py: a whole training script, to be run and edited by the user.

    Args:
        rec: the recommendation.
        folder: where the script will lie; it finds the user's file relative to itself.
        target: the user's file or `package.module:function`; by default what was profiled.

    Raises:
        UsageError: what was profiled is no file, but callables of a running program.
    """
    if rec.workload.kind == "callables":
        raise UsageError(
            "What was passed to choose() lives in your program, so there is no file for a script to import.",
            "Use recommendation.build(model) there.",
        )
    environment = Environment(
        loader=PackageLoader("autoopt.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is Python: values from outside go through `py` or `doc`
    )
    environment.filters |= {"py": _literal, "doc": _doc}
    choice = rec.recommendation
    return environment.get_template("train.py.j2").render(
        rec=rec,
        choice=choice,
        imports=_imports(rec),
        class_name=choice.class_.partition(":")[2],
        arguments=call_arguments(choice),
        target=_target(target or rec.workload.target, Path(folder)),
        is_file=":" not in Path(target or rec.workload.target).name,
        project=os.path.relpath(Path.cwd(), Path(folder).resolve()),
        target_arguments=target_arguments(rec),
        own_optimizer=keeps_optimizer(rec),
        own_groups=keeps_groups(rec),
        own_schedule=keeps_schedule(rec),
        schedule=schedule_of(rec),
        second_order=second_order(rec),
        threads=rec.workload.threads if rec.workload.device == "cpu" else None,
        yours=rec.workload.baseline.source == "configure_optimizers",
        rate=rate(rec),
        warmup=choice.warmup_steps / choice.steps,
        next_choice=next_choice(rec),
        clip=options.applied(choice.hyper, rec.settings).clip,
        accumulate=options.applied(choice.hyper, rec.settings).accumulate,
        times=options.multiple(choice.hyper),
        batch_name=class_name(rec),
        samples=samples(rec),
    )


def _imports(rec: Recommendation) -> dict[str, list[str]]:
    """Import lines of train.py that depend on the recommendation, in the order that isort keeps."""
    outside = {"torch": ["nn"]}
    ours = {
        "autoopt.errors": ["AutooptError"],
        "autoopt.records": ["Band", "Flags"] if rec.promise else ["Flags"],
        "autoopt.training": ["second_order", "set_mode"] if second_order(rec) else ["set_mode"],
        "autoopt.workload": ["Workload", "load"],
    }
    if samples(rec):
        ours["autoopt.batch"] = ["mismatch"]
        ours["autoopt.workload.data"] = ["samples"]
    if rec.promise:
        ours["autoopt.watch"] = ["Watch"]
    if not keeps_schedule(rec):
        ours["autoopt.schedule"] = ["multiplier", "warmup_steps"]
    if not keeps_optimizer(rec):
        ours["autoopt.optim.groups"] = ["as_param_groups", "split"]
        module, _, name = rec.recommendation.class_.partition(":")
        (ours if module.startswith("autoopt.") else outside).setdefault(module, []).append(name)
    return {
        place: [f"from {module} import {', '.join(names)}" for module, names in sorted(lines.items())]
        for place, lines in (("outside", outside), ("autoopt", ours))
    }


def next_choice(rec: Recommendation) -> str:
    """What to try if the recommendation diverges in the real run: the best other one, or half the rate."""
    chosen = rec.recommendation.optimizer
    for row in rec.optimizers:
        if (
            row.optimizer not in (chosen, BASELINE)
            and row.status in ("tie", "worse", "undecided")
            and row.hyper
        ):
            values = ", ".join(f"{key}={value:.3g}" for key, value in row.hyper.items())
            return f"{row.optimizer} ({values}), or half the learning rate"
    return "half the learning rate"


def _own_lines(rec: Recommendation) -> list[str]:
    baseline = rec.workload.baseline
    if baseline.source == "default":
        return [
            _call(
                "optimizer = torch.optim.AdamW",
                f"model.parameters(), {_keywords(call_arguments(rec.recommendation))}",
            )
        ]
    lines = [f"optimizer = ...  # your own {_doc(baseline.optimizer)}, as configure_optimizers makes it"]
    rate, present = rec.recommendation.hyper.get("lr"), baseline.hyper.get("lr")
    if rate and present and rate != present:
        lines += ["for group in optimizer.param_groups:", f'    group["lr"] *= {rate!r} / {present!r}']
    return lines


def _table_lines(rec: Recommendation) -> list[str]:
    choice = rec.recommendation
    arguments = call_arguments(choice)
    module, _, name = choice.class_.partition(":")
    class_ = f"torch.optim.{name}" if module == "torch.optim" else name
    lines = [] if module == "torch.optim" else [f"from {module} import {name}"]
    scaled = any(group.lr_scale != 1 or group.decay_scale != 1 for group in choice.groups)
    if not scaled and not keeps_groups(rec) and module.startswith("torch."):
        return [*lines, _call(f"optimizer = {class_}", f"model.parameters(), {_keywords(arguments)}")]
    # As `optim.build` does: the groups carry the weight decay, and the constructor is not told.
    decay = arguments.pop("weight_decay", 0.0)
    options = "" if tuple(choice.no_decay) == DEFAULT_NO_DECAY else f", no_decay={choice.no_decay!r}"
    options += ", user=yours" if keeps_groups(rec) else ""
    rates = f"lr={arguments['lr']!r}, weight_decay={decay!r}"
    return [
        *lines,
        "from autoopt.optim.groups import as_param_groups, split",
        *(["yours = ...  # the optimizer you have today: its groups are kept"] if keeps_groups(rec) else []),
        _call("groups = as_param_groups", f"split(model{options}), {rates}"),
        _call(f"optimizer = {class_}", f"groups, {_keywords(arguments)}"),
    ]


def _call(start: str, arguments: str) -> str:
    """A call on one line, or with its arguments on a line of their own where it gets too long to paste."""
    whole = f"{start}({arguments})"
    return whole if len(whole) < _WIDTH else f"{start}(\n    {arguments}\n)"


def _keywords(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{key}={_literal(value)}" for key, value in arguments.items())


def _literal(value: object) -> str:
    """`repr` with the double quotes that formatters put, where that is safe."""
    text = repr(value)
    return text if '"' in text or "\\" in text else text.replace("'", '"')


def _doc(text: object) -> str:
    """Text from outside as one line that can end neither a docstring nor a comment."""
    words: Sequence[str] = str(text).split()
    shown = " ".join(words).replace("\\", "/").replace('"""', "'''")
    return "".join(character for character in shown if character.isprintable())


def _target(target: str, folder: Path) -> str:
    """A file's path from `folder`; an import string as it is."""
    if ":" in Path(target).name:
        return target
    return os.path.relpath(Path(target).resolve(), folder.resolve())
