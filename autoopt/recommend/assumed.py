"""Notes on what was taken for granted: what nobody said, and what was measured less well than it could be."""

from __future__ import annotations

from autoopt.recommend.evidence import Evidence
from autoopt.recommend.unchanged import unchanged


def assumed(e: Evidence) -> list[str]:
    """What the user did not say, or what was measured on less than everything."""
    notes = []
    if e.report.settings.origins.get("steps", "default") == "default":
        notes.append(
            f"the length of the real run was not given, so it is taken as {e.total} steps: a longer one mostly wants a "
            "lower learning rate, and may rank the optimizers otherwise (--steps)"
        )
    seen = e.planner.costs.eval_batches(e.steps or e.total)
    if seen is not None and e.report.kind != "own loop":
        notes.append(
            f"validation used {seen} of {e.report.validation_batches} batches, the same for all, so as not to take more "
            "than a fifth of a trial's time"
        )
    return [*notes, *_percent(e), *unchanged(e), *_disturbed(e)]


def _percent(e: Evidence) -> list[str]:
    """A metric that may be one in percent, of which nobody has said so."""
    metric, values = e.score.metric, [r.metric for r in e.planner.results if r.metric is not None]
    if metric is None or metric[1] != "max" or e.score.best is not None:
        return []
    if not values or max(values) <= 1 or not all(0 <= value <= 100 for value in values):
        return []
    return [
        f"{metric[0]} was compared by its size: if 100 is the best that it can be, say METRIC = "
        f'("{metric[0]}", "max", 100), and it is compared by what it lacks of that (from 98 to 99 halves the error)'
    ]


def _disturbed(e: Evidence) -> list[str]:
    """Whose times say less because somebody else came onto the device."""
    again = [r for r in e.planner.results if r.repeated]
    kept = [r for r in e.planner.results if r.disturbed]
    notes = []
    if again:
        notes.append(
            f"{len(again)} trial{'s were' if len(again) > 1 else ' was'} repeated because somebody else came onto the "
            f"device: {again[0].repeated}"
        )
    if kept:
        names = sorted({r.spec.optimizer for r in kept if not _alone(e, r.spec.optimizer)})
        only = f"; {', '.join(names)} had no undisturbed trial, so their times are too long" if names else ""
        notes.append(
            f"{len(kept)} trial{'s' if len(kept) > 1 else ''} stayed disturbed ({kept[0].disturbed}): "
            f"their losses count, their times do not{only}"
        )
    return notes


def _alone(e: Evidence, optimizer: str) -> bool:
    return any(not r.disturbed for r in e.timed(optimizer))
