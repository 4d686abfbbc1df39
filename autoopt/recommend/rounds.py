"""The race, round by round: who was in it, what was believed after it, who left and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from autoopt.recommend.effort import stage_of
from autoopt.records import BASELINE, Round
from autoopt.tuning.leaders import IN_THE_RACE
from autoopt.tuning.planner import Planner


def rounds(planner: Planner) -> list[Round]:
    """Every round in which a trial was started, in order, fresh seeds last.

    What was believed after a round is what was believed when the next one began, and at the end of the run for the
    last. A run that was resumed has forgotten it for the rounds before.
    """
    trials: dict[str, Counter[str]] = {}
    for result in sorted(planner.results, key=lambda r: r.spec.id):
        trials.setdefault(result.spec.stage, Counter())[result.spec.optimizer] += 1
    names = sorted(trials, key=_order)
    began = {f"race {number}": chances for number, chances in planner.history}
    found = list[Round]()
    racing = {n for n, a in planner.arms.items() if a.tunable and not a.dropped.startswith("cut")}
    for name, following in zip(names, [*names[1:], None], strict=True):
        chances = _final(planner) if following is None else began.get(following, {})
        if stage_of(name) == "race":  # a bracket, or the last one's turn, may bring one back
            racing |= {n for n in trials[name] if n != BASELINE and n in planner.arms}
        kept = {n for n, chance in chances.items() if chance >= IN_THE_RACE}
        left = racing - kept if chances else set()
        racing = kept if chances else racing
        found.append(
            Round(
                name=name,
                trials=dict(trials[name]),
                chances={n: round(c, 4) for n, c in chances.items()},
                left={n: _why(planner, n, chances) for n in sorted(left, key=list(planner.arms).index)},
            )
        )
    return found


def _order(name: str) -> tuple[bool, int, str]:
    number = name.removeprefix("race ")
    return (stage_of(name) != "race", int(number) if number.isdigit() else 0, name)


def _final(planner: Planner) -> Mapping[str, float]:
    racing = [a.name for a in planner.race.racing() if a.tunable]
    return planner.view.chances(racing) if racing else {}


def _why(planner: Planner, name: str, chances: Mapping[str, float]) -> str:
    if name not in chances:
        return planner.arms[name].dropped or "out of the race"
    share = 100 * chances[name]
    return f"{share:.0f} % chance of being the best" if share >= 1 else "under 1 % chance of being the best"
