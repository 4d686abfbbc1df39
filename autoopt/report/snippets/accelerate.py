"""For a loop with Hugging Face's Accelerate."""

from __future__ import annotations

from autoopt.records import Recommendation
from autoopt.report.snippets import facts
from autoopt.report.snippets.pieces import import_block, pieces
from autoopt.report.snippets.text import Snippet, call_in_lines, comment, indented, literal


def snippet(rec: Recommendation) -> Snippet:
    """`prepare` and the loop.

    A prepared scheduler moves on by as many steps as there are processes, unless it is told that steps are the
    optimizer's; `step_scheduler_with_optimizer=False` leaves the count to the loop.
    """
    parts = pieces(rec)
    settings, second = facts.settings_of(rec), facts.second_order(rec)
    precision = "no" if settings.precision == "fp32" else settings.precision
    text = import_block(parts, "import torch", "from accelerate import Accelerator") + "\n"
    text += call_in_lines(
        "accelerator = Accelerator",
        {
            "gradient_accumulation_steps": str(settings.accumulate),
            "mixed_precision": literal(precision),
            "step_scheduler_with_optimizer": "False  # else a step counts once per process",
        },
    )
    text += "\n" + "\n".join(parts.statements) + "\n"
    scheduler = "your_scheduler" if parts.own_schedule else "scheduler"
    objects = f"model, optimizer, train_loader, {scheduler}"
    text += f"{objects} = accelerator.prepare(\n    {objects}\n)\n"
    if facts.has_modes(rec):
        text += "optimizer.train()  # and optimizer.eval() before validation and before saving\n"
    text += comment(f"{rec.recommendation.steps} steps in all, over as many epochs as that takes") + "\n"
    text += "for batch in train_loader:\n    with accelerator.accumulate(model):\n"
    return Snippet("accelerate", "python", text + indented(_body(settings.clip, second, scheduler), 8))


def _body(clip: float | None, second: bool, scheduler: str) -> str:
    backward = "loss = loss_of(model, batch)\naccelerator.backward(loss)\n"
    if second:
        backward = (
            "with optimizer.optimizer.graph_context():\n"
            "    loss = loss_of(model, batch)\n"
            "    accelerator.backward(\n"
            "        loss, create_graph=optimizer.optimizer.create_graph\n"
            "    )\n"
        )
    clipping = f"    accelerator.clip_grad_norm_(model.parameters(), {clip!r})\n"
    if clip is not None and not second:
        backward += "if accelerator.sync_gradients:\n" + clipping
    after = f"if accelerator.sync_gradients:\n    {scheduler}.step()\n"
    return backward + "optimizer.step()\n" + after + "optimizer.zero_grad()\n"
