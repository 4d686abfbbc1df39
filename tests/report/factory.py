"""A realistic recommendation with its trials, made from formulas: no randomness, no torch."""

from __future__ import annotations

import math
from typing import Any

from autoopt.records import (
    BASELINE,
    Baseline,
    Choice,
    Confidence,
    Effort,
    Expected,
    Gain,
    GroupRecord,
    More,
    Outcome,
    Plan,
    RateCurve,
    RatePoint,
    Recommendation,
    Round,
    Row,
    Settings,
    Spent,
    StagePlan,
    TrialResult,
    TrialSpec,
    WorkloadReport,
)

GROUPS = [
    GroupRecord(label="matrices", tensors=2, parameters=16_320),
    GroupRecord(label="weights", tensors=1, parameters=1_280),
    GroupRecord(label="no decay", tensors=3, parameters=266, decay_scale=0.0),
]
ADAMW = {"lr": 2.4e-3, "weight_decay": 0.03, "beta2": 0.98}
"""Hyperparameters of the recommended optimizer."""

#        name       best rate, loss floor, seconds a step, state tensors
TABLE = {
    "adamw": (2.4e-3, 0.1184, 0.00101, 2),
    "muon": (4.0e-3, 0.1171, 0.00187, 2),
    "adan": (6.0e-3, 0.1230, 0.00134, 3),
    "sgd": (8.0e-2, 0.1302, 0.00071, 1),
    "adahessian": (9.0e-2, 0.1411, 0.00260, 2),
    "lion": (2.0e-4, 0.1463, 0.00082, 1),
    BASELINE: (1.0e-3, 0.1522, 0.00101, 2),
}


def settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {"steps": 1500, "clip": 1.0, "warmup": 0.05}
    return Settings(**values | {"origins": {"steps": "flag", "clip": "file"}} | changes)


def workload(**changes: Any) -> WorkloadReport:
    values: dict[str, Any] = {
        "target": "examples/digits_mlp/model.py",
        "kind": "functions",
        "settings": settings(),
        "baseline": Baseline(
            source="configure_optimizers",
            optimizer="AdamW",
            registry_name="adamw",
            hyper={"lr": 1e-3, "weight_decay": 0.01},
            schedule=None,
        ),
        "device": "cpu",
        "parameters": 17_866,
        "trainable": 17_866,
        "dtypes": {"float32": 17_866},
        "layers": {"Linear": 3, "ReLU": 2},
        "groups": GROUPS,
        "batch": "tuple(float32[64, 64], int64[64])",
        "samples_per_batch": 64,
        "batches_per_epoch": 22,
        "validation": "own",
        "validation_batches": 5,
        "first_loss": 2.31,
        "initial_loss": 2.305,
        "restore": "in_place",
        "reproducible_data": True,
        "unavailable": {"prodigy": "its package prodigyopt is not installed"},
        "modules": {"model.py": "9f" * 32},
        "seconds": {"import": 1.4, "build": 0.02, "data": 0.1, "first_step": 0.2},
        "step_seconds": 0.00101,
        "data_seconds": 0.0002,
        "eval_batch_seconds": 0.0006,
        "threads": 1,
        "versions": {"python": "3.11.2", "torch": "2.13.0"},
    }
    return WorkloadReport(**values | changes)


def final_loss(name: str, lr: float, steps: int, seed: int = 0) -> float:
    """A bowl in log rate over the optimizer's floor, deeper for longer runs."""
    best, floor, _, _ = TABLE[name]
    return (
        floor * (1 + 0.4 * math.log10(lr / best) ** 2) * (1500 / steps) ** 0.35 * (1 + 0.01 * math.sin(seed))
    )


def expected(name: str, steps: int = 1500) -> Expected:
    best, _, step_seconds, tensors = TABLE[name]
    loss = final_loss(name, best, steps)
    return Expected(
        loss=loss,
        low=loss * 0.97,
        high=loss * 1.03,
        metric=0.97,
        steps=steps,
        seeds=3,
        step_seconds=step_seconds,
        samples_per_second=64 / step_seconds,
        state_bytes=17_866 * 4 * tensors,
        peak_bytes=400_000 + 71_464 * tensors,
        peak_source="tracked",
    )


def rows() -> list[Row]:
    status: dict[str, tuple[str, str]] = {
        "adamw": ("recommended", ""),
        "muon": ("tie", "within 2 % of adamw with probability 0.86, and 1.85 times slower"),
        "adan": ("worse", ""),
        "sgd": ("worse", ""),
        "adahessian": ("edge", "best rate at the end of its range"),
        "lion": ("dropped", "after screening"),
        BASELINE: ("worse", ""),
    }
    made = [
        Row(
            optimizer=name,
            status=kind,  # type: ignore[arg-type]
            hyper={"lr": TABLE[name][0], "weight_decay": 0.03},
            expected=expected(name, 1500 if kind != "dropped" else 375),
            trials=12,
            seconds=14.2,
            relative_step_time=TABLE[name][2] / TABLE["adamw"][2],
            relative_memory=(400_000 + 71_464 * TABLE[name][3]) / 542_928,
            pareto=name in ("adamw", "muon", "sgd"),
            reason=reason,
        )
        for name, (kind, reason) in status.items()
    ]
    made.append(
        Row(optimizer="sgd_sai", status="failed", trials=4, seconds=1.0, reason="all trials diverged")
    )
    made.append(
        Row(optimizer="prodigy", status="not tried", reason="its package prodigyopt is not installed")
    )
    return made


def choice(**changes: Any) -> Choice:
    values: dict[str, Any] = {
        "optimizer": "adamw",
        "class_": "torch.optim:AdamW",
        "arguments": {"lr": 2.4e-3, "betas": (0.9, 0.98), "eps": 1e-8, "weight_decay": 0.03},
        "hyper": ADAMW,
        "lr_interval": (1.2e-3, 4.1e-3),
        "groups": GROUPS,
        "no_decay": ["bias", "norm", "embedding"],
        "schedule": "cosine",
        "warmup_steps": 75,
        "steps": 1500,
        "tuned": True,
    }
    return Choice(**values | changes)


def story() -> dict[str, Any]:
    """How the run went, of one that was told in full."""
    seconds = {"adamw": 21.0, "muon": 22.5, "sgd": 9.5, BASELINE: 4.0}
    return {
        "spent": Spent(
            budget_seconds=60.0,
            startup_seconds=6.0,
            workers=2,
            train=92.0,
            data=5.4,
            build=0.1,
            evaluate=4.2,
        ),
        "more": More(budget_seconds=150.0, confidence="high", longest=1500),
        "effort": [
            Effort(
                optimizer=name, stage=stage, trials=trials, steps=1500 * trials, seconds=share * seconds[name]
            )
            for stage, trials, share in (("race", 9, 0.75), ("confirm", 3, 0.25))
            for name in seconds
        ],
        "race": [
            Round(
                name="race 1",
                trials={"adamw": 3, "sgd": 3, "muon": 1, BASELINE: 1},
                chances={"adamw": 0.4, "muon": 0.3, "sgd": 0.28, "lion": 0.02},
                left={"lion": "2 % chance of being the best"},
            ),
            Round(
                name="race 2",
                trials={"adamw": 1, "muon": 1, "sgd": 1},
                chances={"adamw": 0.6, "muon": 0.4},
                left={"sgd": "failed twice: out of memory"},
            ),
            Round(
                name="confirm",
                trials={"adamw": 3, "muon": 3, BASELINE: 3},
                chances={"adamw": 0.7, "muon": 0.3},
            ),
        ],
        "rates": [
            RateCurve(
                optimizer=name,
                of="loss",
                steps=1500,
                height_steps=1500,
                points=[
                    RatePoint(rate=rate, mean=loss, low=0.9 * loss, high=1.2 * loss)
                    for exponent in (-1.5, -1, -0.5, 0, 0.5, 1, 1.5)
                    for rate in [TABLE[name][0] * 10**exponent]
                    for loss in [final_loss(name, rate, 1500)]
                ],
            )
            for name in ("adamw", "muon")
        ],
    }


def recommendation(**changes: Any) -> Recommendation:
    values: dict[str, Any] = {
        "name": "digits_mlp",
        "recommendation": choice(),
        "expected": expected("adamw"),
        "against_yours": Gain(
            verdict="switch",
            yours=0.1522,
            chosen=0.1184,
            low=0.112,
            high=0.125,
            from_tuning=0.0338,
            from_switching=0.0,
            sentence="against yours: loss 0.1522 -> 0.1184 [0.112, 0.125], "
            "of which 0.0338 from tuning and 0 from switching",
        ),
        "confidence": Confidence(
            label="high",
            reasons=["the longest trials are as long as the real run", "three fresh seeds agree"],
        ),
        "reason": "muon ties with adamw within 2 % and is 1.85 times slower",
        "optimizers": rows(),
        "cut": {
            "radam": "the budget of 60 s allows 8 optimizers",
            "nadam": "the budget of 60 s allows 8 optimizers",
        },
        "settings": settings(),
        "workload": workload(),
        "policy": {"name": "balanced", "tolerance": 0.02},
        "ledger": {
            "import": 2.9,
            "build": 0.1,
            "data": 6.0,
            "train": 88.1,
            "evaluate": 4.2,
            "idle": 9.5,
            "wall": 58.7,
        },
        **story(),
        "provenance": {"version": "0.1.0", "seeds": [0, 1, 2], "trials": 96, "commit": None},
        "notes": ["validation batches: all 5, the same for every trial"],
    }
    return Recommendation(**values | changes)


def keep() -> Recommendation:
    """The user's own optimizer wins."""
    own = choice(
        optimizer=BASELINE,
        arguments={"lr": 1e-3, "weight_decay": 0.01},
        hyper={"lr": 1e-3, "weight_decay": 0.01},
        lr_interval=None,
        tuned=False,
    )
    gain = Gain(
        verdict="keep",
        yours=0.1522,
        chosen=0.1522,
        sentence="keep what you have: nothing tried is better than it",
    )
    return recommendation(
        recommendation=own,
        expected=expected(BASELINE),
        against_yours=gain,
        confidence=Confidence(label="low", reasons=["the longest trial is a tenth of the real run"]),
        reason="no optimizer beat yours by more than the noise between seeds",
    )


def trials() -> list[TrialResult]:
    """Three lengths, five rates, seeds for the longest; the highest rates of sgd diverge."""
    made: list[TrialResult] = []
    for name, (best, _, step_seconds, tensors) in TABLE.items():
        for steps, seeds in ((188, (0,)), (375, (0,)), (1500, (1, 2, 3))):
            for exponent in (-1, -0.5, 0, 0.5, 1) if steps < 1500 else (0,):
                for seed in seeds:
                    lr = best * 10**exponent
                    diverged = name == "sgd" and exponent == 1
                    loss = final_loss(name, lr, steps, seed)
                    curve = [
                        (step, loss + (2.3 - loss) * math.exp(-6 * step / steps) + 0.02 * math.sin(step))
                        for step in range(0, steps + 1, max(1, steps // 40))
                    ]
                    made.append(
                        TrialResult(
                            spec=TrialSpec(
                                id=len(made),
                                stage={188: "race 1", 375: "race 2", 1500: "confirm"}[steps],
                                optimizer=name,
                                hyper={"lr": lr, "weight_decay": 0.03},
                                steps=steps,
                                seed=seed,
                            ),
                            outcome=Outcome.DIVERGED if diverged else Outcome.COMPLETED,
                            message="the loss became NaN at step 12" if diverged else "",
                            loss=None if diverged else loss,
                            metric=None if diverged else 0.97,
                            steps_done=12 if diverged else steps,
                            curve=curve[:4] if diverged else curve,
                            seconds={
                                "train": steps * step_seconds,
                                "evaluate": 0.01,
                                "total": steps * step_seconds,
                            },
                            step_seconds=step_seconds,
                            samples_per_second=64 / step_seconds,
                            state_bytes=17_866 * 4 * tensors,
                            peak_bytes=400_000 + 71_464 * tensors,
                            peak_source="tracked",
                            worker=len(made) % 2,
                        )
                    )
    return made


def plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "budget_seconds": 60.0,
        "workers": 2,
        "step_seconds": 0.0012,
        "full_run_seconds": 1.8,
        "affordable_steps": 84_000,
        "stages": [
            StagePlan(name="race", optimizers=list(TABLE), trials=50, steps=1500, seeds=1, seconds=42.0),
            StagePlan(
                name="confirm", optimizers=["adamw", "muon"], trials=9, steps=1500, seeds=3, seconds=18.0
            ),
        ],
        "cut": {"radam": "the budget allows 8 optimizers"},
        "confidence": "medium",
        "next_level_seconds": 150.0,
        "notes": ["evaluation takes 4 % of a trial"],
    }
    return Plan(**values | changes)
