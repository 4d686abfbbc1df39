"""What the daemon tells of its cluster: a device for each kind of machine, and figures for monitoring. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoopt.daemon import shares
from autoopt.daemon.lookout import Sight
from autoopt.daemon.shares import Holder
from autoopt.records import Cluster
from autoopt.trials.cluster.messages import Node
from autoopt.trials.cluster.places import Share, share

PREFIX = "cluster"
"""How the name of such a device begins."""


def devices(given: Cluster, sight: Sight, holders: Mapping[str, Holder]) -> list[dict[str, Any]]:
    """As `machine.describe` has them, a kind of device each; without a cluster one that says why.

    Args:
        given: the cluster, and what a trial takes of it.
        sight: what was seen of it last.
        holders: job -> what it has of it.
    """
    name = f"cluster at {given.address}"
    common = {"kind": PREFIX, "address": given.address}
    if not sight.nodes:
        why = sight.trouble or ("it has no machines now" if sight.there else "it is being connected to")
        gone: dict[str, Any] = {
            "total": 0,
            "free": 0,
            "used": 0,
            "leased_by": None,
            "others": [],
            "machines": [],
        }
        return [{"uuid": PREFIX, "name": name, **common, **gone, "trouble": why}]
    found = []
    for told in kinds(given, sight, holders):
        jobs = [id_ for id_, holder in holders.items() if holder.kind == told["kind"]]
        others = told["others"]
        taken = f"{others} {'place' if others == 1 else 'places'} taken by others"
        found.append(
            {
                **{name: told[name] for name in ("total", "used", "free", "machines")},
                "uuid": f"{PREFIX}:{told['kind']}",
                "name": f"{name} ({told['kind']})",
                **common,
                "leased_by": ", ".join(f"job {id_}" for id_ in jobs) or None,
                "others": [taken] if others else [],
                "trouble": "",
            }
        )
    return found


def figures(given: Cluster, sight: Sight, holders: Mapping[str, Holder]) -> dict[str, float]:
    """Name -> value; what is told of each kind has it after a slash."""
    found: dict[str, float] = {
        "cluster_up": float(sight.there),
        "cluster_machines": float(len(sight.nodes)),
        "cluster_jobs": float(len(holders)),
    }
    for told in kinds(given, sight, holders):
        for name in ("total", "used", "free", "others"):
            found[f"cluster_places_{name}/{told['kind']}"] = float(told[name])
    return found


def kinds(given: Cluster, sight: Sight, holders: Mapping[str, Holder]) -> list[dict[str, Any]]:
    """Of each kind of device {"kind", "total", "used", "others", "free", "machines": [...]}, counted in places."""
    if not sight.nodes:
        return []
    usual = share(sight.nodes, "auto", given.cpus, given.gpus)
    fits = any(usual.on(node) for node in sight.nodes)
    found = []
    for kind in sorted({node.device for node in sight.nodes}):
        machines = [
            _machine(node, usual, list(holders.values())) for node in sight.nodes if node.device == kind
        ]
        sums = {name: sum(m[name] for m in machines) for name in ("total", "used", "free")}
        others = max(0, sums["total"] - sums["used"] - sums["free"]) if fits else 0
        found.append({"kind": kind, **sums, "others": others, "machines": machines})
    return found


def _machine(node: Node, usual: Share, holders: list[Holder]) -> dict[str, Any]:
    return {
        "address": node.address,
        "cpus": node.cpus,
        "gpus": node.gpus,
        "total": usual.on(node),
        "used": sum(holder.on(node.id) for holder in holders),
        "free": shares.room(node, usual, holders),
    }
