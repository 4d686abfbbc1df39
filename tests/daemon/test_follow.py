"""The live view, on events of a real run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from autoopt.daemon.follow import Follower, first_damage
from autoopt.daemon.hub import Hub
from autoopt.files import plain
from autoopt.records import (
    Event,
    Flags,
    Noted,
    Outcome,
    RunEnded,
    RunResumed,
    RunStarted,
    StageEnded,
    TrialFinished,
    TrialResult,
    TrialSpec,
    TrialStarted,
)
from tests.daemon.daemons import until


def line(event: Event) -> str:
    import json

    return json.dumps(plain(event)) + "\n"


def started(at: float) -> RunStarted:
    return RunStarted(
        at=at,
        target="m.py",
        arguments=[],
        flags=Flags(),
        budget_seconds=100.0,
        policy={},
        optimizers=None,
        seed=0,
        device="cpu",
        workers=0,
        version="0",
    )


def spec(number: int) -> TrialSpec:
    return TrialSpec(id=number, stage="race", optimizer="adamw", hyper={"lr": 0.1}, steps=500, seed=1)


def result(number: int) -> TrialResult:
    curve = [(step, 1.0 / (step + 1)) for step in range(500)]
    return TrialResult(spec=spec(number), outcome=Outcome.COMPLETED, loss=0.5, steps_done=500, curve=curve)


def test_a_run_is_followed_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    follower = Follower(tmp_path)
    assert follower.update() == []
    assert follower.progress(running=True) == {"share": 0.0, "seconds_left": None, "phase": "starting"}

    whole = line(started(1000.0)) + line(TrialStarted(at=1010.0, spec=spec(1), worker=0))
    torn = line(TrialFinished(at=1020.0, result=result(1)))
    path.write_text(whole + torn[:50])
    (told,) = follower.update()
    assert (told["trial"]["state"], told["trial"]["began"], told["trial"]["lr"]) == ("running", 10.0, 0.1)
    assert follower.update() == []

    path.write_text(whole + torn)
    (told,) = follower.update()
    assert (told["trial"]["state"], told["trial"]["loss"], told["trial"]["ended"]) == ("completed", 0.5, 20.0)
    assert len(told["trial"]["curve"]) == 60
    assert told["trial"]["curve"][-1][0] == 499
    progress = follower.progress(running=False)
    assert (progress["share"], progress["seconds_left"], progress["phase"]) == (0.2, 80.0, "race")

    # Killed with a trial in flight, resumed a day later on a clock that was set back.
    more = line(TrialStarted(at=1030.0, spec=spec(2), worker=0)) + line(
        RunResumed(at=500.0, spent_seconds=30.0)
    )
    ended = StageEnded(at=510.0, stage="race", kept=["adamw"], dropped={"sgd": "too slow"})
    more += line(ended) + line(Noted(at=510.0, text="a note"))
    more += line(RunEnded(at=520.0, how="finished", spent_seconds=50.0))
    path.write_text(whole + torn + more)
    told_round = next(told["round"] for told in follower.update() if told.get("round"))
    view = follower.view(running=False)
    assert [trial["state"] for trial in view["trials"]] == ["completed", "cancelled"]
    assert (told_round["kept"], told_round["dropped"]) == (["adamw"], {"sgd": "too slow"})
    assert view["notes"] == ["a note"]
    assert view["progress"] == {"share": 1.0, "seconds_left": 0.0, "phase": "ended"}
    assert view["spent_seconds"] >= 30.0


def test_a_run_that_starts_anew_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(line(started(1.0)) + line(TrialStarted(at=2.0, spec=spec(1), worker=0)))
    follower = Follower(tmp_path)
    follower.update()
    path.unlink()
    path.write_text(line(started(1.0)))
    follower.update()
    assert follower.view(running=True)["trials"] == []


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert first_damage(tmp_path) == ""
    path.write_text(line(started(1.0)) + "{half\n" + line(Noted(at=2.0, text="after")))
    assert first_damage(tmp_path) == "line 2 is no event"
    follower = Follower(tmp_path)
    follower.update()
    assert follower.view(running=True)["budget_seconds"] == 100.0
    assert "damaged" in follower.view(running=True)["notes"][0]
    path.write_text(line(started(1.0)) + "{torn at the end")
    assert first_damage(tmp_path) == ""


def test_updates_are_kept_for_those_who_come_back() -> None:
    hub = Hub(lambda: {"jobs": []}, kept=3)
    first = hub.last
    for number in range(3):
        hub.publish("job", str(number), {})
    assert [update.job_id for update in hub.after(first)] == ["0", "1", "2"]
    assert [update.job_id for update in hub.after(first + 2)] == ["2"]
    hub.publish("job", "3", {})
    for unknown in (first, None, hub.last + 1000):
        (reset,) = hub.after(unknown)
        assert (reset.kind, reset.id, reset.data) == ("reset", hub.last, {"jobs": []})


def test_a_subscription_waits_tells_and_ends_with_the_daemon() -> None:
    hub = Hub(lambda: {})
    woken: list[int] = []
    end: Callable[[], None] = hub.listen(lambda: woken.append(1))
    got: list[str] = []
    thread = threading.Thread(
        target=lambda: [got.append(u.job_id if u else "-") for u in hub.subscribe(hub.last, 0.01)]
    )
    thread.start()
    until(lambda: "-" in got)
    hub.publish("live", "a", {})
    until(lambda: "a" in got)
    end()
    hub.close()
    thread.join(10)
    assert not thread.is_alive()
    assert woken == [1]
