"""Trains examples/char_gpt/model.py with muon, as autoopt recommends.

against yours: loss 2.571 -> 2.246 [1.963, 2.57], of which 0 from tuning and 0.3253 from switching
confidence: medium

    python train.py                         400 steps
    python train.py --resume                go on from the last checkpoint
    torchrun --nproc-per-node 4 train.py    a process per device

One step is taken just as in autoopt's trials, so the same seed and steps give the same loss. Edit it freely.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from autoopt.errors import AutooptError
from autoopt.optim.groups import as_param_groups, split
from autoopt.optim.muon import MuonWithAdamW
from autoopt.records import Band, Flags
from autoopt.schedule import multiplier, warmup_steps
from autoopt.training import set_mode
from autoopt.watch import Watch
from autoopt.workload import Workload, load

HERE = Path(__file__).resolve().parent
TARGET = str((HERE / "../../examples/char_gpt/model.py").resolve())
ARGUMENTS: list[str] = []

STEPS = 400
RATE = 0.00364  # the best is expected between 0.0012 and 0.021
SCHEDULE = "cosine"
WARMUP = 0.05  # share of the steps
ACCUMULATE = 1  # batches per step
CLIP: float | None = None  # largest norm of the gradient
PRECISION = "fp32"  # fp32, bf16 or fp16
IF_IT_DIVERGES = "sgd (lr=0.115, momentum=0.9, weight_decay=0.0005), or half the learning rate"
PROMISE = [  # between low and high with 90 % probability; training losses are means of the steps after `begin`
    Band(of="training loss", share=0.01, begin=0, step=4, low=4.489, high=5.232),
    Band(of="training loss", share=0.05, begin=4, step=20, low=3.772, high=4.3),
    Band(of="training loss", share=0.1, begin=20, step=40, low=2.781, high=3.433),
    Band(of="training loss", share=0.25, begin=40, step=100, low=2.594, high=2.882),
    Band(of="training loss", share=1.0, begin=360, step=400, low=2.037, high=2.25),
    Band(of="validation loss", share=1.0, begin=360, step=400, low=2.149, high=2.342),
]


def make_optimizer(workload: Workload, model: nn.Module, steps: int) -> tuple[torch.optim.Optimizer, Any]:
    """The optimizer, and its schedule: step (from 0) -> multiple of the base rate."""
    yours = workload.baseline(model)  # your configure_optimizers
    parts = split(model, no_decay=["bias", "norm", "embedding"], user=yours.optimizer)
    groups = as_param_groups(parts, lr=RATE, weight_decay=0.05)
    optimizer = MuonWithAdamW(
        groups,
        lr=RATE,
        momentum=0.95,
        betas=(0.9, 0.95),
        ns_steps=5,
    )
    for group in optimizer.param_groups:
        group["base_rate"] = group["lr"]
    return optimizer, lambda step: multiplier(SCHEDULE, step, steps, warmup_steps(WARMUP, steps))


def train(flags: argparse.Namespace) -> dict[str, Any]:
    """Trains to the end and returns what --json prints."""
    begin = time.perf_counter()
    rank, world, device = join_processes(flags.device)
    # With several processes a step's batches are shared out where they can be; else its batch grows.
    accumulate = ACCUMULATE // world if ACCUMULATE % world == 0 else ACCUMULATE
    if rank == 0 and accumulate * world != ACCUMULATE:
        note(f"a step sees {accumulate * world} batches; the rate was chosen for {ACCUMULATE}")

    settings = Flags(steps=flags.steps, accumulate=ACCUMULATE, precision=PRECISION)
    workload = load(TARGET, ARGUMENTS, settings, device)
    model = workload.start(flags.seed, flags.steps, is_trial=False)
    optimizer, rate = make_optimizer(workload, model, flags.steps)
    parameters = [p for p in model.parameters() if p.requires_grad]
    scaler = torch.amp.GradScaler(torch.device(device).type, enabled=PRECISION == "fp16")
    batches = islice(workload.batches(flags.seed), rank, None, world)
    tail: deque[float] = deque(maxlen=max(1, flags.steps // 10))
    first_loss, high, start = math.nan, 0, 0
    every = max(1, flags.steps // 10)
    promised = flags.steps == STEPS and accumulate * world == ACCUMULATE
    watch = Watch(PROMISE if promised else [])  # says whether this run goes as it should

    if flags.resume:
        saved = load_checkpoint(flags, world)
        start, first_loss = saved["step"], saved["first_loss"]
        for _ in range(start * accumulate):  # to the same place in the data
            next(batches)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
        tail.extend(saved["tail"])
        watch.load_state_dict(saved["watch"])
        set_rng_state(saved["rng"][rank])

    set_mode(optimizer, training=True)
    for step in range(start, flags.steps):
        taken = [next(batches) for _ in range(accumulate)]
        for group in optimizer.param_groups:
            group["lr"] = group["base_rate"] * rate(step)
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for batch in taken:
            with workload.autocast():
                loss = workload.loss(model, batch) / accumulate
            scaler.scale(loss).backward()
            total += float(loss.detach())
        if world > 1:
            total = average_over_processes(parameters, total, world)
        scaler.unscale_(optimizer)
        if CLIP is not None:
            nn.utils.clip_grad_norm_(parameters, CLIP)
        scaler.step(optimizer)
        scaler.update()
        workload.after_step(model)

        tail.append(total)
        first_loss = total if step == 0 else first_loss
        high = high + 1 if 0 < 100 * first_loss < total else 0
        if not math.isfinite(total) or high >= 20:
            note(f"diverged at step {step + 1} (training loss {total:.4g}): next, try {IF_IT_DIVERGES}", rank)
            return result(begin, step + 1, None, None, diverged=True, next=IF_IT_DIVERGES)
        if verdict := watch(step + 1, total):
            note(str(verdict), rank)
        if (step + 1) % every == 0 or step + 1 == flags.steps:
            state = {"step": step + 1, "first_loss": first_loss, "tail": list(tail), "world": world}
            state |= {"steps": flags.steps, "seed": flags.seed, "rng": gather(rng_state(), world)}
            state |= {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"scaler": scaler.state_dict()}
            state |= {"watch": watch.state_dict()}
            if rank == 0:
                save_checkpoint(flags.checkpoint, state)
            shown = f"step {step + 1}/{flags.steps}  training loss {total:.4g}"
            if step + 1 < flags.steps and workload.validation != "prequential":
                shown += f"  validation loss {evaluate(workload, model, optimizer, world)[0]:.4g}"
            note(f"{shown}  rate {rate(step) * optimizer.param_groups[0]['base_rate']:.3g}", rank)

    # Without held-out data: the losses of batches that had not been trained on yet.
    if workload.validation == "prequential":
        val_loss, metric = sum(tail) / len(tail), None
    else:
        val_loss, metric = evaluate(workload, model, optimizer, world)
    if verdict := watch.validation(val_loss):
        note(str(verdict), rank)
    return result(begin, flags.steps, val_loss, metric)


def evaluate(
    workload: Workload, model: nn.Module, optimizer: torch.optim.Optimizer, world: int
) -> tuple[float, float | None]:
    """Loss and metric on all validation batches; the training's random numbers stay as they are."""
    if world > 1:  # each process has gathered its own running statistics
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
    set_mode(optimizer, training=False)
    score = workload.evaluate(model)
    set_mode(optimizer, training=True)
    return score.loss, score.metric


def result(
    begin: float, steps: int, val_loss: float | None, metric: float | None, **more: Any
) -> dict[str, Any]:
    """What is printed at the end."""
    return {
        "val_loss": val_loss if val_loss is not None and math.isfinite(val_loss) else None,
        "steps": steps,
        "seconds": round(time.perf_counter() - begin, 3),
        "optimizer": "muon",
        "metric": metric,
        **more,
    }


def join_processes(device: str) -> tuple[int, int, str]:
    """Rank, number of processes (as torchrun says) and this process's device."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if world > 1:
        if device == "cuda":
            device = f"cuda:{os.environ['LOCAL_RANK']}"
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return rank, world, device


def average_over_processes(parameters: list[nn.Parameter], loss: float, world: int) -> float:
    """Mean over the processes of the gradients, in place, and of the loss, which is returned.

    By hand and not by DistributedDataParallel, so that your loss may use the model in any way it likes. A
    parameter that no process used keeps no gradient.
    """
    used = [0.0 if p.grad is None else 1.0 for p in parameters]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    extra = torch.tensor([loss, *used], device=parameters[0].device)
    flat = torch.cat([*(g.detach().flatten().float() for g in gradients), extra])
    dist.all_reduce(flat)
    flat /= world
    *means, extra = flat.split([*(p.numel() for p in parameters), len(extra)])
    mean_loss, *shares = extra.tolist()
    for parameter, mean, share in zip(parameters, means, shares, strict=True):
        parameter.grad = mean.view_as(parameter).to(parameter.dtype) if share else None
    return float(mean_loss)


def gather(value: Any, world: int) -> list[Any]:
    """`value` of every process, by rank."""
    values = [value] * world
    if world > 1:
        dist.all_gather_object(values, value)
    return values


def rng_state() -> dict[str, Any]:
    """Every random number generator's state, in types that a checkpoint can hold safely."""
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "numpy": [kind, keys.tolist(), *rest],
        "random": random.getstate(),
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Puts back what `rng_state` gave."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
    np.random.set_state(tuple(state["numpy"]))
    random.setstate(state["random"])


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes beside, then renames: a crash leaves the old checkpoint whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    torch.save(state, beside)
    beside.replace(path)


def load_checkpoint(flags: argparse.Namespace, world: int) -> dict[str, Any]:
    """The state saved by the same run; another seed, length or number of processes is refused."""
    if not flags.checkpoint.exists():
        sys.exit(f"There is no checkpoint {flags.checkpoint}. Start without --resume.")
    state: dict[str, Any] = torch.load(flags.checkpoint, map_location="cpu", weights_only=True)
    asked = {"steps": flags.steps, "seed": flags.seed, "world": world}
    for key, value in asked.items():
        if state[key] != value:
            sys.exit(f"{flags.checkpoint} is of a run with {key} {state[key]}, not {value}.")
    return state


def note(text: str, rank: int = 0) -> None:
    """Progress, kept off stdout."""
    if rank == 0:
        print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps; the schedule stretches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--checkpoint", type=Path, default=HERE / "checkpoint.pt", help="written ten times")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    flags = parser.parse_args()
    try:
        outcome = train(flags)
    except AutooptError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if int(os.environ.get("RANK", "0")) == 0:
        if flags.json:
            print(json.dumps(outcome, allow_nan=False), flush=True)
        else:
            print("  ".join(f"{key} {value}" for key, value in outcome.items()))
    if dist.is_initialized():
        dist.destroy_process_group()
    return 5 if outcome.get("diverged") else 0


if __name__ == "__main__":
    sys.exit(main())
