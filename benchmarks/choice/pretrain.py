"""Pretrains the net that the workload `lora` fine-tunes, and writes its weights: python -m benchmarks.choice.pretrain"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.choice.workloads import lora
from benchmarks.choice.workloads.attention import GPT
from benchmarks.choice.workloads.data import loader, sources, windows

STEPS, RATE = 4000, 5e-3
TEXTS = "argparse ast calendar configparser difflib doctest inspect pickle tarfile typing turtle zipfile"


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = GPT(lora.WIDTH, lora.DEPTH, lora.CONTEXT)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
    data = loader(windows(sources(TEXTS), lora.CONTEXT), batch=16, shuffle=True)
    batches = itertools.islice(itertools.chain.from_iterable(itertools.repeat(data)), STEPS)
    for step, (codes,) in enumerate(batches, 1):
        optimizer.zero_grad()
        value = F.cross_entropy(model(codes[:, :-1]).flatten(0, 1), codes[:, 1:].flatten())
        value.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"{step} of {STEPS}: {value.item():.3f}")
    # Half precision: the file is small, and frozen weights do not mind.
    weights = {name: value.half().numpy() for name, value in model.state_dict().items()}
    np.savez_compressed(lora.BASE, **weights)


if __name__ == "__main__":
    main()
