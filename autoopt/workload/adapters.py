"""Adapters of peft, drawn again for another seed around the same base."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def is_adapted(model: nn.Module) -> bool:
    """Whether the model is one of peft's, which puts adapters into a base."""
    return isinstance(getattr(model, "peft_config", None), dict)


def redraw(model: nn.Module) -> bool:
    """Draws LoRA's initial weights again, as peft drew them; False where the adapters are others, or trained already.

    Only plain initializations are drawn: those that are computed from the base (PiSSA, OLoRA, LoftQ) change it too.
    """
    layers: list[Any] = [
        m for m in model.modules() if hasattr(m, "reset_lora_parameters") and hasattr(m, "lora_A")
    ]
    configs: Any = getattr(model, "peft_config", {})
    wanted = [(layer, name, configs.get(name)) for layer in layers for name in layer.active_adapters]
    if not wanted or not all(_is_fresh(*one) for one in wanted):
        return False
    with torch.no_grad():
        for layer, name, config in wanted:
            layer.reset_lora_parameters(name, config.init_lora_weights)
    return True


def _is_fresh(layer: Any, name: str, config: Any) -> bool:
    if (
        config is None
        or getattr(config, "use_dora", False)
        or config.init_lora_weights not in (True, "gaussian")
    ):
        return False
    if name not in layer.lora_B:
        return False  # an embedding's, which peft keeps elsewhere
    return not bool(layer.lora_B[name].weight.detach().any())
