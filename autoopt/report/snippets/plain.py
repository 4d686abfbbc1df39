"""For a training loop of one's own."""

from __future__ import annotations

from autoopt import options
from autoopt.records import Recommendation
from autoopt.report.snippets import facts
from autoopt.report.snippets.pieces import pieces
from autoopt.report.snippets.text import Snippet, comment


def snippet(rec: Recommendation) -> Snippet:
    """The lines for a training script that has torch and a `model`; the scheduler is stepped after the optimizer."""
    parts = pieces(rec)
    lines = [*parts.outside, *parts.imports, *parts.statements]
    clip = rec.recommendation.hyper.get(options.CLIP)
    if facts.second_order(rec):
        lines.append(
            comment(
                "a step takes the loss and no backward: optimizer.step(lambda: loss(model, batch)); "
                "the optimizer clips the gradient by itself"
            )
        )
    elif clip is not None:
        norm = f"torch.nn.utils.clip_grad_norm_(model.parameters(), {clip!r})"
        lines.append(f"# before each optimizer.step(): {norm}" if clip else "# without clipping the gradient")
    if options.BATCH in rec.recommendation.hyper:
        count = facts.settings_of(rec).accumulate
        lines.append(
            comment(f"each step on {count} batches of yours: each loss / {count}, and a backward for each")
        )
    if rec.workload.processes > 1:
        ranks, seen = rec.workload.processes, rec.recommendation.effective_batch
        lines.append(
            comment(
                f"chosen for {ranks} processes (torchrun --nproc-per-node {ranks}): a step of all of them sees {seen}"
            )
        )
    if facts.has_modes(rec):
        lines.append(
            comment("optimizer.train() before training, optimizer.eval() before validation and saving")
        )
    return Snippet("plain", "python", "\n".join(lines) + "\n")
