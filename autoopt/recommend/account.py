"""What every recommendation tells of its run, whether anything was compared in it or not."""

from __future__ import annotations

from typing import Any

from autoopt.recommend.effort import efforts, spent
from autoopt.recommend.evidence import Evidence
from autoopt.recommend.outlook import more


def account(e: Evidence) -> dict[str, Any]:
    """Fields of a `Recommendation`: what was run and under which settings, and where the budget went."""
    return {
        "name": e.name,
        "settings": e.report.settings,
        "workload": e.report,
        "policy": e.policy.model_dump(mode="json"),
        "ledger": {part: round(seconds, 3) for part, seconds in e.ledger.items()},
        "spent": spent(e),
        "slots": e.slots,
        "more": more(e),
        "effort": efforts(e.planner.results),
        "provenance": e.provenance,
        "complete": e.complete,
    }
