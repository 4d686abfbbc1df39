"""Whether the weights that are not trained stayed as they were, by their digest after each trial."""

from __future__ import annotations

from autoopt.recommend.evidence import Evidence


def unchanged(e: Evidence) -> list[str]:
    """A note where most of the model is frozen, or where something frozen changed."""
    frozen = e.report.frozen
    looked = [r for r in e.planner.results if r.frozen]
    if frozen is None or not looked or e.report.restore == "rebuilt":
        return []
    changed = [r for r in looked if r.frozen != frozen.digest]
    if changed:
        return [
            f"frozen weights changed in training (first seen after trial {changed[0].spec.id}) and are not put back: trials "
            "did not start from the same place. Let training leave them alone, or make them buffers"
        ]
    if 2 * e.report.trainable > e.report.trainable + frozen.parameters:
        return []
    how = f", {frozen.sampled} of them sampled" if frozen.sampled else ""
    disk = f"; {frozen.absent} lie on a disk and were not looked at" if frozen.absent else ""
    return [
        f"the {frozen.parameters:,} frozen parameters are the same after each of {len(looked)} trials as before the first "
        f"(digest {frozen.digest[:12]} of {frozen.tensors} tensors{how}{disk})"
    ]
