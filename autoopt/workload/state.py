"""Initial weights: captured on the host, written back in place."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from autoopt.errors import WorkloadError
from autoopt.workload.frozen import is_packed

State = dict[str, Tensor]
_KEPT_BYTES = 2 << 30


def trained(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Trainable parameters and buffers by name, tied ones once. Frozen parameters and packed weights are left out."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield f"parameter {name}", parameter
    for name, buffer in model.named_buffers():
        if not is_packed(buffer) and not buffer.is_meta:
            yield f"buffer {name}", buffer


def capture(model: nn.Module) -> State:
    """Copies on the host of what training changes."""
    return {name: own(value).to("cpu", copy=True) for name, value in trained(model)}


def own(value: Tensor) -> Tensor:
    """What this process holds of a tensor: all of it, or of a sharded one its shard, with the same memory."""
    held: Any = value.detach()
    local: Tensor = held.to_local() if isinstance(held, DTensor) else held
    return local


def write(model: nn.Module, state: State) -> None:
    """Puts `state` into the model in place, so that compiled code and wrappers keep their tensors.

    Raises:
        WorkloadError: the state is of a model with other parameters.
    """
    live = {name: own(value) for name, value in trained(model)}
    names = [
        n for n in {**live, **state} if n not in live or n not in state or live[n].shape != state[n].shape
    ]
    if names:
        raise WorkloadError(
            f"build_model() gives another model each time: {names[0]} differs in shape or presence.",
            "Build the same architecture at each call; only the values may differ.",
        )
    with torch.no_grad():
        for name, value in live.items():
            value.copy_(state[name])


class InitialStates:
    """The initial states of the seeds used last, within a limit of memory (at least two are kept)."""

    def __init__(self, kept_bytes: int = _KEPT_BYTES) -> None:
        self._states: OrderedDict[int, State] = OrderedDict()
        self._limit = kept_bytes

    def get(self, seed: int) -> State | None:
        """The state of `seed`, if it is still kept."""
        if seed in self._states:
            self._states.move_to_end(seed)
        return self._states.get(seed)

    def any(self) -> State:
        """One of the states that are kept."""
        return next(iter(self._states.values()))

    def put(self, seed: int, state: State) -> None:
        """Keeps a state, and lets go of those unused for longest."""
        self._states[seed] = state
        size = max(1, sum(value.nbytes for value in state.values()))
        while len(self._states) > max(2, self._limit // size):
            self._states.popitem(last=False)


def is_placed(model: nn.Module) -> bool:
    """Whether the model must not be moved: dispatched over devices, or quantized."""
    for module in model.modules():
        if getattr(module, "hf_device_map", None) is not None or hasattr(module, "_hf_hook"):
            return True
        if getattr(module, "is_loaded_in_8bit", False) or getattr(module, "is_loaded_in_4bit", False):
            return True
        if getattr(module, "is_quantized", False) is True:
            return True
        config = getattr(module, "config", None)
        if getattr(module, "quantization_config", None) or getattr(config, "quantization_config", None):
            return True
    values = [*model.parameters(), *model.buffers()]
    return any(type(v.data).__module__.partition(".")[0] == "torchao" for v in values)


def check_trainable(model: nn.Module, label: str) -> None:
    """Raises WorkloadError for a model that cannot be trained as it is."""
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise WorkloadError(
                f"{label}: the parameter {name} has no shape yet (a lazy module).",
                "Run one batch through the model in build_model() before you return it.",
            )
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.is_meta:
            raise WorkloadError(
                f"{label}: {name} is to be trained, and is offloaded: a step would change a copy that is thrown away.",
                "Freeze what is offloaded (requires_grad_(False)), or load this part onto a device.",
            )
    if not any(p.requires_grad for p in model.parameters()):
        frozen = sum(1 for _ in model.parameters())
        reason = f"all {frozen} parameters are frozen" if frozen else "the model has no parameters"
        raise WorkloadError(
            f"{label}: there is nothing to train: {reason}.",
            "Leave requires_grad=True on what should be trained.",
        )
