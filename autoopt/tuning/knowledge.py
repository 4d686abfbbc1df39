"""What was measured on other networks, as data: how far each optimizer at each learning rate stays behind the best.

`policies/knowledge/*.yaml` holds it with its sources; here it is read, and networks can be left out, so that no figure of a
benchmark rests on what it is scored on. A gap is log((loss + c) / (best + c)), c = 1 % of the loss at initialization, the
best being that of the same network at the same length.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from autoopt.errors import PolicyError

SCHEMA = "autoopt-knowledge/1"
Curve = tuple[tuple[float, float | None], ...]
"""(log10 of the learning rate, gap), by rate; no gap: the run diverged."""


@dataclass(frozen=True)
class Network:
    """A network that was measured: what it is, its trainable parameters, the steps of its full run."""

    kind: str
    parameters: int
    steps: int


@dataclass(frozen=True)
class Knowledge:
    """Gaps by network, optimizer and length.

    Args:
        networks: by name.
        gaps: (network, optimizer) -> log2(full length / length) -> its curve over rates.
    """

    networks: Mapping[str, Network]
    gaps: Mapping[tuple[str, str], Mapping[float, Curve]]

    def without(self, names: Collection[str]) -> Knowledge:
        """All but some networks."""
        return replace(
            self,
            networks={n: s for n, s in self.networks.items() if n not in names},
            gaps={key: curves for key, curves in self.gaps.items() if key[0] not in names},
        )

    @property
    def parameters(self) -> float:
        """Of a typical network that was measured: the geometric mean."""
        logs = [math.log(n.parameters) for n in self.networks.values()]
        return math.exp(sum(logs) / len(logs)) if logs else 1.0


NOTHING = Knowledge({}, {})


def folder() -> Path:
    """Where the data lie: in the installed package, or in the repository."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "policies" / "knowledge"
    return inside if inside.is_dir() else package.parent / "policies" / "knowledge"


@cache
def shipped() -> Knowledge:
    """All files of `policies/knowledge`."""
    networks, gaps = dict[str, Network](), dict[tuple[str, str], Mapping[float, Curve]]()
    for path in sorted(folder().glob("*.yaml")):
        found = read(path)
        networks.update(found.networks)
        gaps.update(found.gaps)
    return Knowledge(networks, gaps)


def read(path: Path) -> Knowledge:
    """The knowledge in a file.

    Raises:
        PolicyError: it is not such a file.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
        return _parsed(data)
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise PolicyError(
            f"{path} is no file of knowledge: {error}.", "Install autoopt again, or take the file away."
        ) from error


def _parsed(data: Any) -> Knowledge:
    if data["schema"] != SCHEMA:
        raise ValueError(f"its schema is {data['schema']!r}, not {SCHEMA!r}")
    networks = {
        name: Network(str(n["kind"]), int(n["parameters"]), int(n["steps"]))
        for name, n in data["networks"].items()
    }
    gaps: dict[tuple[str, str], Mapping[float, Curve]] = {}
    for optimizer, by_network in data["gaps"].items():
        for network, by_length in by_network.items():
            gaps[network, optimizer] = {
                float(s): tuple((float(x), None if gap is None else float(gap)) for x, gap in curve)
                for s, curve in by_length.items()
            }
    return Knowledge(networks, gaps)
