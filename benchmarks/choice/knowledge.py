"""The tables as knowledge for the planner: `policies/knowledge/small_networks.yaml`. From the root:

    python -m benchmarks.choice.knowledge          # writes the file anew from the tables

Workloads that are held out never enter it. A replay leaves the workload that it is scored on out as well.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path

from autoopt.tuning.knowledge import SCHEMA, Curve, Knowledge, Network, folder
from autoopt.workload import load
from benchmarks.choice import HELD_OUT
from benchmarks.choice.surface import Surface, surfaces

FILE = "small_networks.yaml"
WORKLOADS = Path(__file__).with_name("workloads")
_HEAD = f"""schema: {SCHEMA}
explain: >
  How far each optimizer at each learning rate stays behind the best one of the same network and length, as
  log((loss + c) / (best + c)), c = 1 % of the loss at initialization. Lengths are doublings below the network's full
  run (0: in full, 3: an eighth). Curves are pairs [log10 of the learning rate, gap]; null: diverged. Other settings as
  `autoopt optimizers` lists them. Validation loss, one tuning seed below the full length, means of all seeds at it.
source: measured by `python -m benchmarks.choice.tables` on the workloads of benchmarks/choice; written by
  `python -m benchmarks.choice.knowledge`
"""


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m benchmarks.choice.knowledge", description=(__doc__ or "").split("\n")[0]
    ).parse_args()
    path = folder() / FILE
    known = {name: s for name, s in surfaces().items() if name not in HELD_OUT}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(written(learned(known.values(), described=True)), encoding="utf-8")
    print(f"{path}: {len(known)} networks, {path.stat().st_size / 1024:.0f} KiB.")


def learned(known: Iterable[Surface], described: bool = False) -> Knowledge:
    """The gaps of some surfaces; `described`: with the size and kind of each network, which loads it."""
    networks: dict[str, Network] = {}
    gaps: dict[tuple[str, str], dict[float, Curve]] = {}
    for surface in known:
        kind, parameters = _described(surface.name) if described else (surface.name, 1)
        networks[surface.name] = Network(kind, parameters, surface.steps)
        for steps in surface.lengths():
            lines = {name: surface.line(name, steps) for name in surface.optimizers}
            best = min(v for line in lines.values() for _, v in line if v is not None)
            for name, line in lines.items():
                if line:
                    doublings = round(math.log2(surface.steps / steps), 1)
                    curve = tuple((round(x, 3), None if v is None else round(v - best, 4)) for x, v in line)
                    gaps.setdefault((surface.name, name), {})[doublings] = curve
    return Knowledge(networks, gaps)


def written(knowledge: Knowledge) -> str:
    """The file's text: a line a curve, so that changes can be read."""
    lines = [_HEAD + "networks:"]
    for name, n in knowledge.networks.items():
        lines.append(f'  {name}: {{kind: "{n.kind}", parameters: {n.parameters}, steps: {n.steps}}}')
    lines.append("gaps:")
    for optimizer in sorted({o for _, o in knowledge.gaps}):
        lines.append(f"  {optimizer}:")
        for network in knowledge.networks:
            curves = knowledge.gaps.get((network, optimizer))
            if curves:
                lines.append(f"    {network}:")
                lines += [f"      {s:g}: {_listed(curves[s])}" for s in sorted(curves)]
    return "\n".join(lines) + "\n"


def _listed(curve: Curve) -> str:
    pairs = (f"[{x:g}, {'null' if gap is None else format(gap, '.3g')}]" for x, gap in curve)
    return f"[{', '.join(pairs)}]"


def _described(name: str) -> tuple[str, int]:
    """What a workload says of itself in its first line, and its trainable parameters."""
    path = WORKLOADS / f"{name}.py"
    kind = path.read_text(encoding="utf-8").split("\n")[0].strip('"').split(":")[0].rstrip(".")
    workload = load(str(path))
    try:
        model = workload.start(0, 1)
        return kind, sum(p.numel() for p in model.parameters() if p.requires_grad)
    finally:
        workload.close()


if __name__ == "__main__":
    main()
