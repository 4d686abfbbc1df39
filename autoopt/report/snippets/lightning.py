"""For a LightningModule and its Trainer."""

from __future__ import annotations

from autoopt.records import Recommendation
from autoopt.report.snippets import facts
from autoopt.report.snippets.pieces import import_block, pieces
from autoopt.report.snippets.text import Snippet, call_in_lines, comment, indented, literal

_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}

_BACKWARD = """
def backward(self, loss):  # keeps its graph where the optimizer needs second derivatives
    optimizer = self.trainer.optimizers[0]
    with optimizer.graph_context():
        loss.backward(create_graph=optimizer.create_graph)
"""

_MODES = """
def on_train_start(self):  # this optimizer trains with other weights than it validates with
    for optimizer in self.trainer.optimizers:
        optimizer.train()

def on_validation_start(self):
    for optimizer in self.trainer.optimizers:
        optimizer.eval()

def on_validation_end(self):
    for optimizer in self.trainer.optimizers:
        optimizer.train()
"""


def snippet(rec: Recommendation) -> Snippet:
    """`configure_optimizers`, what else the optimizer needs of the module, and the Trainer's settings."""
    parts = pieces(rec, "self", indent=8)
    returned = (
        "return optimizer  # and your scheduler with it"
        if parts.own_schedule
        else 'return [optimizer], [{"scheduler": scheduler, "interval": "step"}]'
    )
    methods = "def configure_optimizers(self):\n" + indented("\n".join([*parts.statements, returned])) + "\n"
    if facts.second_order(rec):
        methods += _BACKWARD
    if facts.has_modes(rec):
        methods += _MODES
    settings = facts.settings_of(rec)
    clip = literal(settings.clip)
    if facts.second_order(rec):
        clip = "None  # the optimizer clips by itself"
    trainer = call_in_lines(
        "trainer = lightning.Trainer",
        {
            "max_steps": str(rec.recommendation.steps),
            "accumulate_grad_batches": str(settings.accumulate),
            "gradient_clip_val": clip,
            "precision": literal(_PRECISION[settings.precision]),
        },
    )
    differences = _differences(rec)
    text = import_block(parts, "import lightning", "import torch") + "\n\n"
    text += "class YourModule(lightning.LightningModule):  # what is in it goes into yours\n"
    text += indented(methods) + "\n\n"
    if facts.has_modes(rec):
        text += comment("call optimizer.eval() before you save weights for use") + "\n"
    text += "".join(comment(sentence) + "\n" for sentence in differences)
    return Snippet("lightning", "python", text + trainer + "\n", differences)


def _differences(rec: Recommendation) -> tuple[str, ...]:
    if facts.second_order(rec) and rec.settings.accumulate > 1:
        return (
            "Lightning gives a second-order optimizer the last batch of accumulate_grad_batches alone: "
            "accumulate in the loader instead, by a batch that is so many times as large",
        )
    return ()
