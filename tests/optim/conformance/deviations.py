"""THE table of exceptions, and the decorator that runs a test for every optimizer with them in mind.

A case that stands in the table must fail its test in the way that the row says. One that passes, or fails in
another way, makes the test fail: a row that is no longer needed has to go.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import pytest

from autoopt.optim import registry
from tests.optim.conformance.cases import CASES, Case


class Deviates(AssertionError):
    """An optimizer does not do what is asked of all."""


def demand(condition: bool, otherwise: str) -> None:
    """Raises Deviates with `otherwise` unless the condition holds."""
    if not condition:
        raise Deviates(otherwise)


@dataclass(frozen=True)
class Deviation:
    """Cases that do not do what a topic asks, what happens instead, and why that is so."""

    topic: str
    cases: tuple[str, ...]
    """Names as in `cases.CASES`; `*` stands for any characters."""
    error: type[Exception] | tuple[type[Exception], ...]
    match: str
    reason: str

    def concerns(self, topic: str, case: Case) -> bool:
        """Whether it is about this case of this topic."""
        return topic == self.topic and any(fnmatch(case.name, pattern) for pattern in self.cases)


DEVIATIONS: tuple[Deviation, ...] = (
    # --- training ---
    Deviation(
        "resume in float64",
        ("nadam",),
        Deviates,
        "ends elsewhere",
        "loading casts the float32 product of momenta to the parameter's dtype",
    ),
    Deviation(
        "resume in bfloat16",
        ("adahessian-differences",),
        RuntimeError,
        "needs float32 parameters",
        "a perturbation of bfloat16 parameters would be rounded away",
    ),
    Deviation(
        "copies and pickles",
        ("lion",),
        AttributeError,
        "maximize",
        "its flag is an attribute of the object, which torch's optimizers do not copy",
    ),
    # --- parameters ---
    Deviation(
        "a parameter added later",
        ("prodigy",),
        Deviates,
        "those added went elsewhere",
        "one estimate of the rate and one step count serve all parameters",
    ),
    Deviation(
        "a parameter added later",
        ("adan-clipped", "sgd_sai-normalized"),
        Deviates,
        "went elsewhere",
        "the norm, or the largest ratio, is one for all parameters",
    ),
    Deviation(
        "a gradient that comes late",
        ("sgd-fused",),
        TypeError,
        "got NoneType",
        "old and new momentum buffers do not mix in torch's fused path",
    ),
    Deviation(
        "a gradient that comes late",
        ("schedule_free_adamw", "prodigy"),
        Deviates,
        "late parameters went elsewhere",
        "steps are counted for the group, so that a late parameter has the wrong bias correction",
    ),
    Deviation(
        "a gradient that comes late",
        ("adan-clipped", "sgd_sai-normalized"),
        Deviates,
        "late parameters went elsewhere",
        "the norm, or the largest ratio, is one for all parameters",
    ),
    Deviation(
        "no gradient at all",
        ("adahessian-differences",),
        RuntimeError,
        "needs step.closure.",
        "without a closure there is no second gradient; a step that is due says so",
    ),
    Deviation(
        "empty tensors",
        ("adafactor",),
        ZeroDivisionError,
        "division by zero",
        "it divides by the number of elements",
    ),
    Deviation(
        "options of a group",
        ("prodigy",),
        RuntimeError,
        "different lr values",
        "one rate for all groups (`Need.ONE_RATE`, refused by `build`)",
    ),
    Deviation(
        "options of a group",
        ("adan-clipped", "sgd_sai-normalized"),
        Deviates,
        "go elsewhere",
        "the norm, or the largest ratio, is one for all groups",
    ),
    Deviation(
        "layouts in memory, a contiguous gradient",
        ("sgd-fused", "adamw-fused", "adagrad-fused"),
        Deviates,
        "other strides give another result",
        "torch's fused kernels go through memory as it lies: silently wrong where layouts differ",
    ),
    Deviation(
        "views",
        ("sgd-fused", "adamw-fused", "adagrad-fused"),
        Deviates,
        "a part goes elsewhere|outside of it moved",
        "torch's fused kernels go through memory as it lies: silently wrong where there are gaps",
    ),
    Deviation(
        "views",
        ("adan-fused", "sgd_sai-fused"),
        RuntimeError,
        "without gaps in memory",
        "the compiled kernel goes through memory as it lies, so it refuses tensors with gaps",
    ),
    # --- rates ---
    Deviation(
        "rate 0",
        ("schedule_free_adamw",),
        Deviates,
        "parameters move at rate 0",
        "its average of the iterates goes on; it brings its own schedule (`Need.OWN_SCHEDULE`)",
    ),
    Deviation(
        "a tensor as rate",
        ("adamw-foreach",),
        ValueError,
        "not supported for capturable=False and foreach=True",
        "torch wants capturable=True for it",
    ),
    Deviation(
        "a tensor of shape (1,) as rate",
        ("adamw-foreach",),
        ValueError,
        "not supported for capturable=False and foreach=True",
        "torch wants capturable=True for it",
    ),
    Deviation(
        "a tensor of shape (1,) as rate",
        ("lion", "schedule_free_adamw", "prodigy"),
        (RuntimeError, TypeError),
        "scalar tensor expected|invalid combination of arguments|must be Number",
        "only a 0-d tensor will do",
    ),
    # --- dtypes ---
    Deviation(
        "precision of bfloat16",
        ("sgd-fused",),
        Deviates,
        "differs by more than rounding",
        "torch's fused kernel",
    ),
    Deviation(
        "precision of bfloat16",
        ("adahessian-differences",),
        RuntimeError,
        "needs float32 parameters",
        "a perturbation of bfloat16 parameters would be rounded away",
    ),
    Deviation(
        "several precisions at once",
        ("adahessian-differences",),
        RuntimeError,
        "needs float32 parameters",
        "a perturbation of bfloat16 parameters would be rounded away",
    ),
    Deviation(
        "complex parameters",
        ("sgd-fused", "adamw-fused", "adagrad-fused"),
        RuntimeError,
        "floating point Tensors",
        "torch has no fused kernel for them",
    ),
    Deviation(
        "complex parameters",
        ("adafactor", "muon"),
        RuntimeError,
        "support complex parameters",
        "its formulas have no complex form here",
    ),
    Deviation(
        "complex parameters",
        ("schedule_free_adamw",),
        Deviates,
        "otherwise than pairs do",
        "it squares complex gradients instead of their parts, silently",
    ),
    Deviation(
        "complex parameters",
        ("prodigy",),
        TypeError,
        "instances of 'complex'",
        "it compares complex sums; the message does not say so",
    ),
    # --- gradients ---
    Deviation(
        "odd gradients: huge",
        ("adafactor",),
        Deviates,
        "no longer finite",
        "the squares overflow, and infinity is divided by infinity",
    ),
    Deviation(
        "NaN stays in its tensor",
        ("lion",),
        Deviates,
        "left no trace",
        "the sign of NaN is 0 on the CPU: those elements stand still for ever, silently",
    ),
    Deviation(
        "NaN stays in its tensor",
        ("adan-clipped",),
        Deviates,
        "other tensors changed",
        "the norm that clips is one for all parameters",
    ),
    Deviation(
        "sparse gradients",
        ("sgd", "sgd-*", "adamw*", "nadam", "radam", "rmsprop", "adagrad*", "adafactor", "lion"),
        Deviates,
        "moved what came before",
        "the refusal comes when earlier groups have moved already",
    ),
    Deviation(
        "sparse gradients",
        ("schedule_free_adamw",),
        Deviates,
        "does not say why",
        "they are not looked for",
    ),
    Deviation(
        "the gradient is left as it was",
        ("schedule_free_adamw",),
        Deviates,
        "p.grad is changed",
        "it computes in p.grad to save memory",
    ),
    # --- calls ---
    Deviation(
        "closure without grad mode",
        ("prodigy",),
        RuntimeError,
        "does not require grad",
        "it runs the closure in the caller's mode",
    ),
    Deviation(
        "torch.compile",
        ("sgd-fused", "adamw-fused", "adagrad-fused", "adafactor", "prodigy"),
        Deviates,
        "nothing is compiled",
        "torch keeps these paths out of the compiler; Prodigy reads numbers from tensors",
    ),
)

used: set[str] = set()
"""Topics that a test has taken up."""


def conforms(topic: str, where: Callable[[Case], bool] = lambda case: True) -> Callable[[Any], Any]:
    """Runs a test for every case, and expects of those in the table what the table says.

    Args:
        topic: what is asked, as a noun; rows of the table name it.
        where: which cases the topic is about at all, e.g. those that take `maximize`.
    """
    used.add(topic)
    cases: Sequence[Case] = [case for case in CASES if where(case)]

    def decorate(test: Callable[..., None]) -> Any:
        @pytest.mark.parametrize("case", cases, ids=lambda case: case.name)
        @functools.wraps(test)
        def run(case: Case, **given: Any) -> None:
            if reason := registry.why_unavailable(case.spec):
                pytest.skip(reason)
            rows = [row for row in DEVIATIONS if row.concerns(topic, case)]
            if not rows:
                test(case=case, **given)
                return
            (row,) = rows
            try:
                test(case=case, **given)
            except row.error as error:
                if not re.search(row.match, str(error)):
                    raise
            else:
                pytest.fail(f"{case.name} does what {topic!r} asks: its row in the table can go")

        return run

    return decorate
