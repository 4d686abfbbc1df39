from __future__ import annotations

from collections.abc import Iterator

from autoopt.tuning.asking import Moment, Proposal
from tests.tuning.simulated import SURFACES, Machine


def test_a_round_gives_every_optimizer_in_it_one_trial() -> None:
    """Ahead of a round come the configuration believed best and brackets: none of those in a round's list."""
    planner = Machine(SURFACES, seconds=300.0).planner()
    planner.proposals.brackets = []
    machine = Machine(SURFACES, seconds=300.0)
    asked: dict[int, list[str]] = {}
    entered: dict[int, list[str]] = {}
    usual = planner.rounds.proposals

    def watched(now: Moment) -> Iterator[Proposal]:
        for proposal in usual(now):
            number = planner.rounds.number
            asked.setdefault(number, []).append(proposal.option.optimizer)
            entered.setdefault(number, [asked[number][0], *planner.rounds.waiting])
            yield proposal

    planner.rounds.proposals = watched  # type: ignore[method-assign]
    machine.run(planner)
    assert len(entered) > 3
    assert len(entered[min(entered)]) > 3
    last = max(entered)
    for number, names in entered.items():
        if number != last:
            assert asked[number] == names
            assert len(set(names)) == len(names)
