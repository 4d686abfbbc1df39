"""Does what the papers of our three optimizers report hold in small? One command, from the root of the repository:

    python -m benchmarks.published

Each claim is printed and appended to benchmarks/RESULTS.md as soon as it is measured, so Ctrl-C loses only the
one under way; with --keep not even that one's finished trials.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.published import gpt, quadratic, vit
from benchmarks.results import append, heading, machine

COMMAND = "python -m benchmarks.published"
CLAIMS: dict[str, tuple[str, Callable[[Path | None], str]]] = {
    "quadratic": ("AdaHessian on an ill-conditioned quadratic", quadratic.measure),
    "vit": ("SGD-SaI beside AdamW on a small ViT", vit.measure),
    "gpt": ("Adan in half of Adam's steps on a small GPT", gpt.measure),
}


def main() -> None:
    flags = _flags()
    torch.set_num_threads(1)
    for name in flags.only or CLAIMS:
        title, measure = CLAIMS[name]
        kept = flags.keep / f"{name}.jsonl" if flags.keep else None
        begin = time.monotonic()
        try:
            body = measure(kept)
        except KeyboardInterrupt:
            raise SystemExit(f"Stopped in {name}; what was finished before it is in RESULTS.md.") from None
        seconds = time.monotonic() - begin
        append(
            heading(f"Published: {title}", f"{COMMAND} --only {name}")
            + f"1 thread on {machine()}; {seconds:.0f} s.\n\n{body}\n"
        )


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(CLAIMS), metavar="NAME", help=", ".join(CLAIMS))
    parser.add_argument(
        "--keep", type=Path, help="folder for finished trials: the same command goes on from them"
    )
    flags = parser.parse_args()
    if flags.keep:
        flags.keep.mkdir(parents=True, exist_ok=True)
    return flags


if __name__ == "__main__":
    main()
