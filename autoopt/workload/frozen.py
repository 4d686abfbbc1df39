"""Weights that are not trained: told apart, never copied, and shown to be the same after the trials as before.

They are frozen parameters, and integers that a quantized layer keeps as buffers. A digest of them is cheap enough to be
taken after each trial: of a tensor with more elements than a few, evenly spaced ones count. Who trains a weight by mistake
changes nearly all of its elements, so that a sample shows it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from autoopt.optim.build import plain
from autoopt.records import FrozenWeights

SAMPLE = 1024
"""Elements of a tensor that count."""
BASE_BYTES = 64 << 20
"""A frozen part of at least this size is a base that is loaded once, and not built again for another seed."""
_PACKED = (torch.uint8, torch.int8, torch.int16, torch.int32)
_PACKED_BYTES = 64 << 10
"""Smaller whole-number buffers are counters and indices, which training may change."""


def is_packed(buffer: Tensor) -> bool:
    """Whether a buffer holds a quantized weight, as GPTQ's and AWQ's layers keep them."""
    return buffer.dtype in _PACKED and buffer.nbytes >= _PACKED_BYTES


def frozen(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What is not trained, by name; of weights that are offloaded those in memory, and else their place on "meta"."""
    for prefix, module in model.named_modules():
        for name, value in module.named_parameters(prefix, recurse=False):
            if not value.requires_grad:
                yield name, _offloaded(module, name.rpartition(".")[2], value)
        for name, value in module.named_buffers(prefix, recurse=False):
            if is_packed(value):
                yield name, value


def nbytes(model: nn.Module) -> int:
    """Bytes of what is not trained, tied weights once; offloaded to disk or not."""
    found = {id(value): value.nbytes for _, value in frozen(model)}
    return sum(found.values())


def is_base(model: nn.Module) -> bool:
    """Whether most of the model is frozen, and too much of it to be built once more."""
    size = nbytes(model)
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    return size >= BASE_BYTES and size > trained


def look(model: nn.Module) -> FrozenWeights | None:
    """What is frozen, with its digest; None where nothing is."""
    state, seen = hashlib.blake2b(digest_size=16), set()
    elements = sampled = absent = 0
    parts: dict[torch.device, list[Tensor]] = {}
    for name, value in frozen(model):
        if id(value) in seen:
            continue
        seen.add(id(value))
        elements += value.numel()
        state.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        if value.is_meta:
            absent += 1
            continue
        sampled += value.numel() > SAMPLE
        for inner in plain(value.detach()):
            parts.setdefault(inner.device, []).append(_bytes(inner))
    if not seen:
        return None
    for pieces in parts.values():  # one transfer from each device
        state.update(torch.cat(pieces).cpu().numpy().tobytes())
    return FrozenWeights(
        tensors=len(seen), parameters=elements, sampled=sampled, absent=absent, digest=state.hexdigest()
    )


def _bytes(value: Tensor) -> Tensor:
    """Evenly spaced elements as bytes, on their device."""
    if value.numel() == 0 or value.layout is not torch.strided or value.is_quantized:
        return torch.empty(0, dtype=torch.uint8, device=value.device)
    if value.is_contiguous():
        flat = value.view(-1)
    elif value.ndim == 2 and value.t().is_contiguous():
        flat = value.t().view(-1)
    else:
        flat = value[:: max(1, value.shape[0] // 8)].reshape(-1)
    chosen = flat[:: max(1, -(-flat.numel() // SAMPLE))].contiguous()
    return chosen.view(torch.uint8)


def _offloaded(module: nn.Module, name: str, value: Tensor) -> Tensor:
    """The weight that Accelerate's hook puts into the module for a forward pass, where it is kept in memory."""
    hook = getattr(module, "_hf_hook", None)
    maps = [getattr(one, "weights_map", None) for one in getattr(hook, "hooks", (hook,))]
    weights: Any = next((found for found in maps if found is not None), None)
    if not value.is_meta or weights is None:
        return value
    inner = getattr(weights, "dataset", weights)
    kept = getattr(inner, "state_dict", inner)
    found = kept.get(getattr(weights, "prefix", "") + name) if isinstance(kept, dict) else None
    return found if isinstance(found, Tensor) else value
