"""Do the parts of a step that events tell agree with a clock that waits for the device? One command:

    python -m benchmarks.speed_check                    # about half a minute on a GPU; --device cpu checks the host's clock

For each optimizer a small GPT trains twice on one batch: once as trials do, with events that nobody waits for, and once
with a wait after every part. The two tables should agree in forward, backward and optimizer: events tell what the device
did, the waiting clock adds what the host needs to start it. The last column is the time of a whole step without any
measurement, which shows what the measuring costs.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoopt.optim import build, groups, registry
from autoopt.optim.period import period
from autoopt.records import Flags, Speed
from autoopt.timing import Stopwatch
from autoopt.training import train
from autoopt.trials.speed import summarise
from autoopt.workload import Workload, from_callables

OPTIMIZERS = ("adamw", "adan", "sgd_sai", "adahessian", "muon")
WARM, STEPS = 8, 32


class Block(nn.Module):
    """Attention by hand, since fused attention has no second derivative, which AdaHessian takes."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        shape = (batch, length, 3, self.heads, width // self.heads)
        q, k, v = self.qkv(self.norm1(x)).view(shape).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5
        mask = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        mixed = scores.masked_fill(mask, float("-inf")).softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        moved: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return moved


class Gpt(nn.Module):
    """GPT-2's shape, small: learned positions, norms before, a head of its own."""

    def __init__(self, words: int, length: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(words, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.token(x) + self.position(torch.arange(x.shape[1], device=x.device))
        for block in self.blocks:
            h = block(h)
        scores: Tensor = self.head(self.norm(h))
        return scores


def next_token(model: nn.Module, batch: Tensor) -> Tensor:
    """Cross-entropy of the next token."""
    scores = model(batch[:, :-1])
    return F.cross_entropy(scores.flatten(0, 1), batch[:, 1:].flatten())


class Waiting(Stopwatch):
    """Waits for the device at every mark, and reads the clock of the host."""

    def __init__(self, device: torch.device, first: int, period: int) -> None:
        super().__init__(torch.device("cpu"), first, period)
        self._wait: Callable[[], None] = (
            partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
        )

    def begin(self, step: int) -> None:
        self._wait()
        super().begin(step)

    def mark(self, part: str) -> None:
        self._wait()
        super().mark(part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(parser.parse_args().device)
    gpu = device.type == "cuda"
    sizes = (8192, 256, 512, 6, 8, 16) if gpu else (128, 32, 32, 2, 2, 4)
    words, length, width, layers, heads, rows = sizes
    batch = torch.randint(words, (rows, length + 1), generator=torch.Generator().manual_seed(0))
    workload = from_callables(
        model=lambda: Gpt(words, length, width, layers, heads),
        train=[batch] * 8,
        val=[batch],
        loss=next_token,
        flags=Flags(steps=STEPS + WARM),
        device=str(device),
    )
    name = torch.cuda.get_device_name(device) if gpu else "CPU"
    print(f"{name}, torch {torch.__version__}; batches of {rows} x {length} tokens, {STEPS} steps; ms")
    head = ("optimizer", "clock", "forward", "backward", "optimizer", "step", "middle half", "data", "plain")
    print("".join(f"{word:>18}" for word in head))
    for optimizer in OPTIMIZERS:
        spec = registry.get(optimizer)
        reason = registry.why_unavailable(spec)
        if reason is not None:
            print(f"{optimizer:>18}  {reason}")
            continue
        plain = whole(workload, optimizer)
        for clock, make in (("events" if gpu else "host", Stopwatch), ("waiting", Waiting)):
            speed = measured(workload, optimizer, device, make)
            print("".join(f"{word:>18}" for word in cells(optimizer, clock, speed, plain)))
    workload.close()


def runs(workload: Workload, name: str, make: Callable[[int], Any]) -> tuple[Any, list[float]]:
    """A training; the stopwatch that `make` gives for the optimizer's period, and the host's time at each step's end."""
    model = workload.start(0, STEPS + WARM)
    spec = registry.get(name)
    optimizer = build.build(spec, groups.split(model), {"lr": 1e-3 * spec.start()["lr"]})
    watch = make(period(optimizer))
    batches = itertools.cycle([next(workload.batches(0))])
    ends = [
        time.perf_counter()
        for _ in train(
            model,
            workload,
            optimizer,
            batches,
            steps=STEPS + WARM,
            multiplier=lambda _: 1.0,
            stopwatch=watch,
        )
    ]
    return watch, ends


def whole(workload: Workload, name: str) -> float:
    """Median seconds of a step that nobody measures."""
    _, ends = runs(workload, name, lambda _: None)
    return statistics.median(b - a for a, b in itertools.pairwise(ends[WARM:]))


def measured(workload: Workload, name: str, device: torch.device, make: type[Stopwatch]) -> Speed:
    """The parts of a step."""
    watch, _ = runs(workload, name, lambda every: make(device, WARM, every))
    speed = summarise(watch.laps(), clock="device" if watch.on_device else "host", period=watch.period)
    assert speed is not None
    return speed


def cells(name: str, clock: str, speed: Speed, plain: float) -> list[str]:
    """One line of the table."""

    def ms(seconds: float | None) -> str:
        return "inside" if seconds is None else f"{1e3 * seconds:.3f}"

    parts = [ms(part.seconds if part else None) for part in (speed.forward, speed.backward, speed.optimizer)]
    half = f"{ms(speed.step.low)}-{ms(speed.step.high)}"
    return [name, clock, *parts, ms(speed.step.seconds), half, ms(speed.data.seconds), ms(plain)]


if __name__ == "__main__":
    main()
