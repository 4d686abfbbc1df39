"""Jobs for the tests, and the live view of a recorded run at any moment of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

RECORDED = Path(__file__).parent / "recorded"
DAY = 1_790_000_000.0

Json = Any


def job(id: str, state: str = "queued", **changes: Json) -> Json:
    """A job; `submission` is merged, the rest is set."""
    began = state not in ("queued",)
    ended = state in ("done", "failed", "cancelled", "set_aside")
    submission = {
        "target": "model.py",
        "arguments": [],
        "options": {},
        "priority": 0,
        "cores": None,
        "name": None,
        "key": None,
        **changes.pop("submission", {}),
    }
    return {
        "id": id,
        "submission": submission,
        "state": state,
        "reason": "",
        "created": DAY,
        "started": DAY + 4 if began else None,
        "ended": DAY + 64 if ended else None,
        "attempts": int(began),
        "deaths": 0,
        "devices": ["GPU-5f6e1c9a-7d"] if began else [],
        "digest": "0" * 64,
        "changed": [],
        "error": None,
        "complete": True if state == "done" else None,
        "folder": f"jobs/{id}",
        "version": 1,
        **changes,
    }


def result() -> Json:
    """The recorded recommendation."""
    return yaml.safe_load((RECORDED / "recommendation.yaml").read_text(encoding="utf-8"))


def files(id: str) -> dict[tuple[str, str], str]:
    names = ("recommendation.yaml", "train.py")
    return {(id, name): (RECORDED / name).read_text(encoding="utf-8") for name in names}


def live(of: Json, share: float = 1.0) -> Json:
    """The recorded run as it stood when that share of its events had been written."""
    lines = (RECORDED / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    begin = events[0]["at"]
    shown: Json = {"job": of, "plan": None, "trials": [], "rounds": [], "notes": [], "workload": None}
    trials: dict[int, Json] = {}
    now = begin
    for event in events[: max(1, round(share * len(events)))]:
        now, seconds = event["at"], event["at"] - begin
        match event["kind"]:
            case "workload_loaded":
                shown["workload"] = {
                    key: event["report"][key]
                    for key in ("initial_loss", "parameters", "device", "settings", "baseline")
                }
            case "plan_made":
                shown["plan"] = event["plan"]
            case "trial_started":
                trials[event["spec"]["id"]] = _started(event["spec"], seconds)
            case "trial_finished":
                trials[event["result"]["spec"]["id"]] |= _finished(event["result"], seconds)
            case "stage_ended":
                shown["rounds"].append(
                    {k: event[k] for k in ("stage", "kept", "dropped")} | {"seconds": seconds}
                )
            case "noted":
                shown["notes"].append(event["text"])
    shown["trials"] = list(trials.values())
    whole = events[0]["budget_seconds"]
    shown["progress"] = {
        "share": min(1.0, (now - begin) / whole),
        "seconds_left": max(0.0, whole - (now - begin)),
        "phase": shown["trials"][-1]["stage"] if trials else "loading",
    }
    return shown | {"spent_seconds": now - begin}


def _started(spec: Json, seconds: float) -> Json:
    return {
        "trial": spec["id"],
        "optimizer": spec["optimizer"],
        "lr": spec["hyper"].get("lr"),
        "hyper": spec["hyper"],
        "steps": spec["steps"],
        "seed": spec["seed"],
        "stage": spec["stage"],
        "state": "running",
        "loss": None,
        "step": 0,
        "step_seconds": None,
        "peak_bytes": None,
        "state_bytes": None,
        "curve": [],
        "began": seconds,
        "ended": None,
        "message": "",
    }


def _finished(found: Json, seconds: float) -> Json:
    curve = found["curve"][:: max(1, len(found["curve"]) // 60)]
    keys = ("loss", "step_seconds", "peak_bytes", "state_bytes", "message")
    return {key: found[key] for key in keys} | {
        "state": found["outcome"],
        "step": found["steps_done"],
        "curve": curve,
        "ended": seconds,
    }
