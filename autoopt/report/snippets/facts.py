"""What the code for a recommendation depends on: what is kept of the user's own, and what the optimizer asks for."""

from __future__ import annotations

from typing import Any

from autoopt import options
from autoopt.errors import OptimizerUnavailable, UnknownOptimizer
from autoopt.optim import registry
from autoopt.optim.spec import Need
from autoopt.records import BASELINE, Choice, Flags, Recommendation, Settings

OUR_LABELS = frozenset({"matrices", "weights", "no decay"})
"""Labels that `optim.groups.split` gives where the user has no groups of their own."""
DEFAULT_NO_DECAY = ("bias", "norm", "embedding")
"""What `split` leaves without weight decay unless told otherwise."""


def call_arguments(choice: Choice) -> dict[str, Any]:
    """Constructor arguments as Python has them: sequences, lists in YAML, are tuples."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in choice.arguments.items()}


def target_arguments(rec: Recommendation) -> list[str]:
    """What followed `--` on the command line."""
    return [str(item) for item in rec.provenance.get("arguments", [])]


_OF_A_FILE = ("steps", "accumulate", "precision", "clip", "warmup")


def own_flags(rec: Recommendation) -> Flags:
    """The flags of the run as far as they matter to what is kept of the user's own, when their file is loaded again.

    A scheduler of theirs may count steps or epochs of the run that was asked for, which a flag may have made longer or
    shorter than the file says.
    """
    asked = rec.settings
    given = {name: getattr(asked, name) for name in _OF_A_FILE if asked.origins.get(name) == "flag"}
    if rec.workload.checkpoint is not None:
        given["steps"] = asked.steps  # what remained of a half-trained net; the file knows the whole
    return Flags(**given)


def in_program(rec: Recommendation) -> bool:
    """What was tuned lives in a running program, so that no script could import it."""
    return rec.workload.kind == "callables" or (
        rec.workload.kind == "own loop" and rec.workload.target == "tune"
    )


def keeps_optimizer(rec: Recommendation) -> bool:
    """The baseline was chosen: the user's own optimizer, or AdamW at 1e-3 (with its rate changed, perhaps)."""
    return rec.recommendation.optimizer == BASELINE


def keeps_groups(rec: Recommendation) -> bool:
    """The user's own parameter groups are kept: several, or fewer parameters than the model has."""
    if keeps_optimizer(rec) or rec.workload.baseline.source != "configure_optimizers":
        return False
    if rec.workload.kind == "own loop":  # what make_optimizer is given says the groups
        return False
    groups = rec.recommendation.groups
    whole = sum(group.parameters for group in groups) == rec.workload.trainable
    return not whole or any(group.label not in OUR_LABELS for group in groups)


def keeps_schedule(rec: Recommendation) -> bool:
    """The user's own scheduler is kept."""
    own = rec.workload.baseline.schedule is not None or goes_on(rec)
    return rec.recommendation.schedule == "yours" and own


def goes_on(rec: Recommendation) -> bool:
    """A half-trained net goes on as it is: the user's own optimizer with its state and the rest of its schedule."""
    return keeps_optimizer(rec) and rec.workload.checkpoint is not None


def needs(rec: Recommendation) -> frozenset[Need]:
    """What the optimizer asks of a training loop; nothing is known of one that is not in the table."""
    name = rec.workload.baseline.registry_name if keeps_optimizer(rec) else rec.recommendation.optimizer
    try:
        return registry.get(name).needs if name is not None else frozenset()
    except (OptimizerUnavailable, UnknownOptimizer):  # of a package that this machine lacks
        return frozenset()


def second_order(rec: Recommendation) -> bool:
    """The optimizer differentiates twice: it takes the loss as a closure, as `training.train` gives it."""
    own = keeps_optimizer(rec)
    name = rec.workload.baseline.registry_name if own else rec.recommendation.optimizer
    if name is None or Need.SECOND_ORDER not in needs(rec):
        return False
    return registry.get(name).target.startswith("autoopt.")


def has_modes(rec: Recommendation) -> bool:
    """The optimizer keeps two sets of weights, and is told which one is wanted (schedule-free)."""
    return Need.TRAIN_EVAL_MODE in needs(rec)


def several_rates(rec: Recommendation) -> bool:
    """Some parameter groups have a multiple of the base rate."""
    return any(group.lr_scale != 1 for group in rec.recommendation.groups)


def settings_of(rec: Recommendation) -> Settings:
    """The settings of the real run, with what the configuration sets otherwise."""
    return options.applied(rec.recommendation.hyper, rec.settings)


def table_name(rec: Recommendation) -> str:
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
