"""For Hugging Face's Trainer."""

from __future__ import annotations

from autoopt.records import Recommendation
from autoopt.report.snippets import facts
from autoopt.report.snippets.pieces import import_block, pieces
from autoopt.report.snippets.text import Snippet, call_in_lines, comment

_SECOND_ORDER = '''
class SecondOrderTrainer(Trainer):
    """Backward keeps its graph where the optimizer needs second derivatives."""

    def training_step(self, *arguments, **options):
        optimizer = self.optimizer.optimizer  # inside Accelerate's wrapper
        backward = self.accelerator.backward
        self.accelerator.backward = partial(backward, create_graph=optimizer.create_graph)
        try:
            with optimizer.graph_context():
                return super().training_step(*arguments, **options)
        finally:
            self.accelerator.backward = backward

'''


def snippet(rec: Recommendation) -> Snippet:
    """Optimizer and schedule for `Trainer(optimizers=...)`, and the TrainingArguments that go with them."""
    parts = pieces(rec)
    settings, second = facts.settings_of(rec), facts.second_order(rec)
    arguments = {"output_dir": '"out"', "max_steps": str(rec.recommendation.steps)}
    if rec.workload.samples_per_batch is not None:
        arguments["per_device_train_batch_size"] = str(rec.workload.samples_per_batch)
    arguments["gradient_accumulation_steps"] = str(settings.accumulate)
    if second:
        arguments["max_grad_norm"] = "0.0  # the optimizer clips by itself"
    elif settings.clip is None:
        arguments["max_grad_norm"] = "0.0  # without clipping; 1.0 unless given"
    else:
        arguments["max_grad_norm"] = repr(settings.clip)
    if settings.precision != "fp32":
        arguments[settings.precision] = "True"
    text = "from functools import partial\n\n" if second else ""
    text += import_block(parts, "import torch", "from transformers import Trainer, TrainingArguments")
    text += f"\n{_SECOND_ORDER}\n" if second else "\n"
    text += "\n".join(parts.statements) + "\n"
    text += call_in_lines("arguments = TrainingArguments", arguments) + "\n"
    text += call_in_lines(
        f"trainer = {'SecondOrderTrainer' if second else 'Trainer'}",
        {
            "model": "model",
            "args": "arguments",
            "train_dataset": "train_dataset",
            "optimizers": f"(optimizer, {'your_scheduler' if parts.own_schedule else 'scheduler'})",
        },
    )
    if facts.has_modes(rec):
        text += "\n" + comment(
            "the Trainer switches this optimizer between training and evaluation; "
            "call trainer.optimizer.eval() before you save weights for use"
        )
    return Snippet("transformers", "python", text + "\n")
