"""Ray Tune with OptunaSearch and ASHA: the script of a good user. Runs in an environment of its own (`ray_tune.py`).

python -m benchmarks.choice.live.ray_peer REQUEST.json ANSWER.json

Tune's trials run in actors, each a process; they are reused, so that two of them load the workload once. The clock
starts when both have.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from autoopt.optim import registry
from autoopt.workload import Workload, load
from benchmarks.choice.live import trainings, warm
from benchmarks.choice.live.nouns import Ended, Pick, Seen, Task

_LOAD_SECONDS = 90.0
_TICK = 0.01
_SEED = 100
"""Of the first tuning's sampler: with the seed of the peer that is Optuna alone, both would begin with the same draws."""


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Tunes as the request says; the answer has the best configuration, seconds and numbers of trials."""
    begin = time.time()
    ray.init(
        num_cpus=request["workers"],
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        logging_level="error",
        runtime_env={"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}},
    )
    with tempfile.TemporaryDirectory() as folder:
        (ready := Path(folder) / "ready").mkdir()
        request = request | {"ready": str(ready)}
        tuner = tune.Tuner(
            _trainable,
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                search_alg=OptunaSearch(
                    partial(_space, request), metric="loss", mode="min", seed=_SEED + request["tuning"]
                ),
                scheduler=ASHAScheduler(max_t=request["points"]),
                num_samples=-1,
                max_concurrent_trials=request["workers"],
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=folder, verbose=0, stop=_Deadline(ready, request["workers"], request["seconds"])
            ),
        )
        results = tuner.fit()
        end = time.time()
        clock = _ready_at(ready, request["workers"]) or begin
        reported = [r for r in results if r.metrics and "point" in r.metrics]
        answer = {
            "seconds": end - clock,
            "startup": clock - begin,
            "started": len(results),
            "finished": sum(r.metrics["point"] == request["points"] for r in reported),
            "processes": len(list(ready.iterdir())),
        }
        if reported:
            best = min(reported, key=lambda r: r.metrics["loss"]).config
            answer |= {"optimizer": best["optimizer"], "rate": best[f"lr_{best['optimizer']}"]}
    ray.shutdown()
    return answer


class _Deadline(tune.Stopper):
    """Ends everything `seconds` after the workers were ready."""

    def __init__(self, ready: Path, workers: int, seconds: float) -> None:
        self._ready, self._workers, self._seconds = ready, workers, seconds

    def __call__(self, *_trial_and_result: Any) -> bool:
        return self.stop_all()

    def stop_all(self) -> bool:
        begin = _ready_at(self._ready, self._workers)
        return begin is not None and time.time() - begin >= self._seconds


def _ready_at(ready: Path, workers: int) -> float | None:
    """When the last of the first workers was ready, in Unix seconds; None before that."""
    times = sorted(float(text) for file in ready.iterdir() if (text := file.read_text()))
    return times[workers - 1] if len(times) >= workers else None


def _space(request: dict[str, Any], trial: Any) -> dict[str, Any]:
    """The optimizer as a categorical with a rate each; what is returned is constant."""
    name = trial.suggest_categorical("optimizer", request["names"])
    span = registry.get(name).space["lr"]
    trial.suggest_float(f"lr_{name}", span.low, span.high, log=True)
    return {"request": request}


# --- in a worker ---------------------------------------------------------------------------------------------


@cache
def _loaded(target: str, ready: str, workers: int) -> Workload:
    """The workload of this process; the first time it waits for the other processes."""
    torch.set_num_threads(1)
    warm.optimizers()
    workload = load(target)
    workload.evaluate(workload.start(0, workload.settings.steps))  # pays for the first use of everything
    (Path(ready) / str(os.getpid())).write_text(str(time.time()))
    latest = time.monotonic() + _LOAD_SECONDS
    while _ready_at(Path(ready), workers) is None and time.monotonic() < latest:
        time.sleep(_TICK)
    return workload


def _trainable(config: dict[str, Any]) -> None:
    request, name = config["request"], config["optimizer"]
    workload = _loaded(request["target"], request["ready"], request["workers"])
    pick = Pick.at(name, float(f"{config[f'lr_{name}']:.4g}"))
    task = Task("watched", pick, request["steps"], request["tuning"], request["points"])
    for item in trainings.watched(workload, task):
        if isinstance(item, Seen):
            tune.report({"loss": item.loss, "point": item.point})
        elif isinstance(item, Ended) and item.loss is None:
            tune.report({"loss": request["initial"], "point": 0})


if __name__ == "__main__":
    # By its name: what is pickled from __main__ goes by value, and each call would load the workload anew.
    from benchmarks.choice.live import ray_peer

    Path(sys.argv[2]).write_text(json.dumps(ray_peer.main(json.loads(Path(sys.argv[1]).read_text()))))
