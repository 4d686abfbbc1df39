"""A Ray cluster of several nodes on the loopback, in a process of its own: `python -m tests.trials.cluster.machines`.

Reads one JSON order a line, {"do": "add" | "remove" | "actors", ...}, and answers each with one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[3]
MODEL = """
import torch

def build_model():
    return torch.nn.Linear(3, 1)

def train_dataloader():
    torch.manual_seed(0)
    return [(torch.randn(4, 3), torch.randn(4, 1)) for _ in range(8)]

val_dataloader = train_dataloader
STEPS = 50

def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()
"""
"""What trains there."""


class Machines:
    """The process above, as a test holds it: a head without room for trials, and nodes."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.trials.cluster.machines"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", **(environment or {})},
        )
        self.address: str = self._answer()["address"]

    def add(self, **resources: float) -> int:
        """Starts a node with num_cpus and num_gpus; returns its number."""
        number: int = self._ask(do="add", **resources)["node"]
        return number

    def remove(self, node: int) -> None:
        """Kills a node."""
        self._ask(do="remove", node=node)

    def kill_head(self) -> None:
        """Kills the head."""
        self._ask(do="head")

    def close(self) -> None:
        """Ends all of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # Ray talks too
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise RuntimeError("the cluster's process has ended")


def main() -> None:
    """Serves until stdin closes."""
    from ray.cluster_utils import Cluster

    here = {"node_ip_address": HERE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **here})
    nodes: list[Any] = []
    print(json.dumps({"address": cluster.address}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answer = {}
        match order.pop("do"):
            case "add":
                nodes.append(cluster.add_node(**order, **here))
                answer = {"node": len(nodes) - 1}
            case "remove":
                cluster.remove_node(nodes[order["node"]], allow_graceful=False)
            case "head":
                cluster.remove_node(cluster.head_node, allow_graceful=False)
        print(json.dumps(answer), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
