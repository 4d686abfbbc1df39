"""The same GPT with its weights sharded over processes, as a model is that does not fit on one device.

autoopt profile examples/char_gpt/sharded.py --nproc 2 --budget 3m
"""

from __future__ import annotations

import torch.distributed as dist
from model import (  # noqa: F401  the rest of the contract is as it was
    GPT,
    STEPS,
    configure_optimizers,
    loss,
    train_dataloader,
    val_dataloader,
)
from torch import nn
from torch.distributed.fsdp import fully_shard


def build_model() -> nn.Module:
    gpt = GPT()
    if dist.is_initialized():  # not under `autoopt check`, which is one process
        for block in gpt.blocks:
            fully_shard(block)
        fully_shard(gpt)
    return gpt
