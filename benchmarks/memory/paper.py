"""The memory figure of SGD-SaI's paper (arXiv 2412.11768), optimizer state alone in float32, by parameter count.

    python -m benchmarks.memory.paper             # printed, about a minute
    python -m benchmarks.memory.paper --record    # and added to benchmarks/RESULTS.md

Every optimizer takes a real first step on fake tensors of the real shapes: its state is what would be allocated, to the
byte, and no weight is. The paper does not print its numbers' origin; each difference is shown with the number of
parameters that the paper's figure would mean.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable

import torch
from torch import nn

from autoopt.memory import shadow, steps
from autoopt.memory.ledger import Ledger
from autoopt.memory.trace import Trace
from autoopt.optim import build, groups, registry
from autoopt.optim._curvature import CurvatureOptimizer
from benchmarks import results
from benchmarks.memory.nets import NETS

COMMAND = "python -m benchmarks.memory.paper"
GIB = 2**30
PAPER = {
    "vit_s": ("ViT-S/16", {"adamw": 0.17, "sgd_sai": 0.08}),
    "vit_h": ("ViT-H/14", {"adamw": 4.86, "sgd_sai": 2.42}),
    "gpt2_xl": ("GPT-2 XL", {"adamw": 11.86, "sgd_sai": 5.93}),
    "llama_7b": ("Llama-2-7B", {"adamw": 49.48, "sgd_sai": 25.15}),
}
"""Read off the figure, GiB. Of Prodigy it says 4 times SGD-SaI."""
TENSORS = {"adamw": 2, "sgd_sai": 1, "prodigy": 4}
OTHERS = ("sgd", "adan", "adahessian", "lion", "adafactor", "muon")
_BLOCK, _LEAST = 256, 4096


def state(name: str, optimizer: str) -> int:
    """Bytes of the state after a first step on the net's shapes."""
    trace = Trace(Ledger())
    model = shadow.built(trace, NETS[name][0])
    with trace:
        for p in model.parameters():
            p.grad = torch.empty_like(p)
        spec = registry.get(optimizer)
        hyper = (
            {"lr": 0.0} if optimizer == "adahessian" else {}
        )  # at rate 0 and without a loss it only makes its state
        made = build.build(spec, groups.split(model), hyper)
    if isinstance(made, CurvatureOptimizer):
        with trace, trace.assuming():
            made.step()
        return build.state_bytes(made)
    return steps.step(trace, model, made, "cuda").state


def eight_bit(model: nn.Module) -> int:
    """Bytes of AdamW's two moments in 8 bits (Dettmers 2021, arXiv 2110.02861), as torchao 0.18 allocates them.

    A byte an element, a float32 scale for each block of 256 and a table of 256 numbers a tensor; tensors under 4096
    elements, or that no whole number of blocks covers, stay float32. With the step count of each tensor.
    """
    total = 0
    for p in model.parameters():
        n = p.numel()
        small = n < _LEAST or n % _BLOCK
        total += 4 + 2 * (4 * n if small else n + 4 * n // _BLOCK + 4 * 256)
    return total


def paper_table(found: dict[str, dict[str, int]], counts: dict[str, int]) -> str:
    """Ours beside the paper's, and what the paper's figure would mean."""
    lines = [
        "| net | parameters | optimizer | state, GiB | paper | difference | parameters that the paper's figure means |"
    ]
    lines.append("|---" * 7 + "|")
    for name, (title, figures) in PAPER.items():
        for optimizer, tensors in TENSORS.items():
            ours = found[name][optimizer] / GIB
            theirs = figures.get(optimizer, 4 * figures["sgd_sai"])
            means = theirs * GIB / 4 / tensors
            lines.append(
                f"| {title} | {counts[name]:,} | {optimizer} | {ours:.3f} | {theirs:.2f} | {ours / theirs - 1:+.1%} | "
                f"{means / 1e6:,.1f} M ({means / counts[name] - 1:+.1%}) |"
            )
    return "\n".join(lines) + "\n"


def others_table(found: dict[str, dict[str, int]], models: dict[str, nn.Module]) -> str:
    """The rest of the table of optimizers, GiB."""
    lines = [f"| net | {' | '.join(OTHERS)} | AdamW in 8 bits (formula) |", "|---" * (len(OTHERS) + 2) + "|"]
    for name, (title, _) in PAPER.items():
        cells = [f"{found[name][o] / GIB:.3f}" for o in OTHERS] + [f"{eight_bit(models[name]) / GIB:.3f}"]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def explain(found: dict[str, dict[str, int]]) -> Iterable[str]:
    """What the differences come to."""
    yield "- Ours are exact: parameters times tensors times 4 bytes, and a few numbers a tensor (steps, ratios)."
    for name, (title, figures) in PAPER.items():
        ratio = figures["adamw"] / figures["sgd_sai"]
        own = found[name]["adamw"] / found[name]["sgd_sai"]
        digits = 0.005 * (1 / figures["adamw"] + ratio / figures["adamw"])
        if abs(ratio / own - 1) <= digits:
            yield f"- {title}: the paper's two figures have the ratio {ratio:.3f}, ours {own:.3f}: the same to its two digits."
        else:
            yield (
                f"- {title}: the paper's two figures have the ratio {ratio:.3f}, and two tensors against one make {own:.3f}: "
                "they cannot both be states of one count of parameters, so at least one holds something else as well (or less)."
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    begin = time.perf_counter()
    models = {name: shadow.built(Trace(Ledger()), NETS[name][0]) for name in PAPER}
    counts = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    found = {name: {o: state(name, o) for o in (*TENSORS, *OTHERS)} for name in PAPER}
    text = (
        f"{results.machine()}; {time.perf_counter() - begin:.0f} s.\n\n{paper_table(found, counts)}\n"
        + "\n".join(explain(found))
        + f"\n\n{others_table(found, models)}"
    )
    if asked.record:
        results.append(results.heading("Memory: the paper's table", COMMAND) + text)
    else:
        print(text)


if __name__ == "__main__":
    main()
