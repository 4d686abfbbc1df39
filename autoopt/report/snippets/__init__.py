"""The recommendation as code to paste, for each kind of project: a file a kind."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from autoopt.errors import UsageError
from autoopt.records import Recommendation
from autoopt.report.snippets import (
    accelerate,
    facts,
    hydra,
    lightning,
    plain,
    timm,
    torchtitan,
    torchtune,
    transformers,
)
from autoopt.report.snippets.text import Snippet, doc

KINDS: dict[str, Callable[[Recommendation], Snippet]] = {
    "plain": plain.snippet,
    "lightning": lightning.snippet,
    "transformers": transformers.snippet,
    "accelerate": accelerate.snippet,
    "timm": timm.snippet,
    "hydra": hydra.snippet,
    "torchtune": torchtune.snippet,
    "torchtitan": torchtitan.snippet,
}
"""Kind of project -> what makes its snippet."""


def snippet(rec: Recommendation, kind: str = "plain") -> Snippet:
    """What is to be pasted into a project of a kind.

    Raises:
        UsageError: there is no such kind.
    """
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, n=1)
        known = f"There are {', '.join(KINDS)}."
        raise UsageError(
            f"There is no snippet for {kind!r}.", f"Did you mean {near[0]}? {known}" if near else known
        )
    if (saved := rec.workload.checkpoint) is not None and facts.goes_on(rec):
        own = doc(rec.workload.baseline.optimizer)
        text = f"# keep what you have: go on from step {saved.step} with your own {own}, its state and its schedule\n"
        return Snippet(kind, "python", text)
    return KINDS[kind](rec)
