"""The effective batch: how many samples an optimizer step sees, and which learning rate goes with another number.

A learning rate holds for the number of samples that the gradient of a step is averaged over: fewer samples are a
noisier gradient, and bear a lower rate. How much lower depends on what the optimizer does with the noise. SGD's step is
the gradient times the rate, so the same number of samples moves the weights as far where the rate grows in proportion
(Goyal 2017, arXiv 1706.02677, section 2.1). Adam divides by a root mean square that the noise is part of, which leaves
the square root (Malladi 2022, arXiv 2205.10287, section 5). Both are where to begin a search, not where it ends.
"""

from __future__ import annotations

from collections.abc import Mapping

from autoopt.errors import UsageError

_EXPONENTS: Mapping[str, float] = {"sgd": 1.0, "sgd_sai": 1.0, "prodigy": 0.0}
"""Registry name -> power of the batch that the rate grows with. Prodigy finds its rate itself; for others than Adam's
closest relatives nothing was derived, and the square root is taken."""
_ROOT = 0.5
_ALIKE = 1.1
"""Ratio of two batches up to which they count as one: some loaders' batches differ a little."""


class BatchWarning(UserWarning):
    """A training with another effective batch than the one that its learning rate was chosen for."""


def exponent(optimizer: str) -> float:
    """The power of the effective batch that a good learning rate grows with.

    >>> exponent("adamw"), exponent("sgd")
    (0.5, 1.0)
    """
    return _EXPONENTS.get(optimizer.lower(), _ROOT)


def scaled(rate: float, optimizer: str, ratio: float) -> float:
    """The rate to begin with for a batch that is `ratio` times as large, in three digits.

    >>> scaled(1e-3, "adamw", 4), scaled(0.1, "sgd", 0.5)
    (0.002, 0.05)
    """
    return float(f"{rate * ratio ** exponent(optimizer):.3g}")


def rule(optimizer: str) -> str:
    """How a rate is scaled, in words, with the source."""
    if exponent(optimizer) == 1.0:
        return "in proportion to the batch: Goyal 2017, arXiv 1706.02677"
    if exponent(optimizer) == _ROOT:
        return "with the square root of the batch, as Malladi 2022, arXiv 2205.10287, derives it for Adam"
    return "it adapts its rate by itself"


def accumulate_for(wanted: int, per_batch: int, ranks: int = 1) -> int:
    """Batches of an optimizer step, of all processes together, that make `wanted` samples.

    Args:
        wanted: samples of an optimizer step, over all processes.
        per_batch: samples of a batch of the training loader.
        ranks: processes that take as many batches each.

    Raises:
        UsageError: no whole number of batches makes so many samples; the nearest that can be made are named.

    >>> accumulate_for(256, 32, ranks=2)
    8
    """
    unit = per_batch * ranks
    if wanted % unit == 0:
        return wanted // unit * ranks
    below, above = wanted // unit * unit, (wanted // unit + 1) * unit
    nearest = f"{below} and {above}" if below else f"{above}"
    each = f" in each of {ranks} processes" if ranks > 1 else ""
    raise UsageError(
        f"A global batch of {wanted} samples cannot be made of whole batches of {per_batch}{each}.",
        f"The nearest that can {'are' if below else 'is'} {nearest}; or change the batch size of your loader.",
    )


def mismatch(optimizer: str, rate: float | None, chosen_for: int | None, seen: int) -> str:
    """What a user should know who trains with `seen` samples a step and not with those that the rate was chosen for.

    Args:
        optimizer: registry name.
        rate: that was chosen; `None` where there is none to be scaled.
        chosen_for: samples of an optimizer step, over all processes; `None`: not known.
        seen: the same of the training at hand.

    Returns:
        Empty where the two are the same, or differ by less than a tenth.

    Raises:
        UsageError: `seen` is no number of samples.

    >>> mismatch("adamw", 1e-3, 64, 64), mismatch("adamw", 1e-3, 64, 256).split(". ")[1].split(" (")[0]
    ('', 'A rate to begin with is 0.002')
    """
    if seen < 1:
        raise UsageError(
            f"An effective batch of {seen} is no batch.", "Give the samples of an optimizer step."
        )
    if chosen_for is None:
        return (
            f"An optimizer step sees {seen} samples. For how many this recommendation was made is not known: no tensor of "
            "its batches could be counted. Make sure that you train as you profiled."
        )
    if max(seen / chosen_for, chosen_for / seen) < _ALIKE:
        return ""
    tuned = f"To have it tuned, profile with --global-batch {seen}."
    if rate is None:
        return f"An optimizer step sees {seen} samples, and this recommendation was made for {chosen_for}. {tuned}"
    said = f"An optimizer step sees {seen} samples, and the learning rate {rate:.3g} was chosen for {chosen_for}."
    begin = scaled(rate, optimizer, seen / chosen_for)
    return f"{said} A rate to begin with is {begin:.3g} ({rule(optimizer)}). {tuned}"
