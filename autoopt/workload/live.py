"""The live model: built once, given the initial weights of any seed in place."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from autoopt.errors import WorkloadError
from autoopt.records import FrozenWeights
from autoopt.workload import adapters, contract, frozen
from autoopt.workload.boundary import UserCode
from autoopt.workload.contract import Contract
from autoopt.workload.seeding import derive, seed_everything
from autoopt.workload.state import InitialStates, capture, check_trainable, is_placed, write

if TYPE_CHECKING:
    from autoopt.workload.alone import Alone


class LiveModel:
    """Builds the user's model and brings it to the initial state of a seed.

    Args:
        given: the user's functions; completed by what the built model itself brings.
        code: the border to them.
        device: where the model goes, unless it is dispatched or quantized.
        note: takes what the user should know.
        group: the processes that train it together.
    """

    def __init__(
        self,
        given: Contract,
        code: UserCode,
        device: torch.device,
        note: Callable[[str], None],
        group: Alone,
    ) -> None:
        self._group = group
        self._contract, self._code, self._device, self._note = given, code, device, note
        self._model: nn.Module | None = None
        self._states = InitialStates()
        self._trainable: dict[str, bool] = {}
        self.build_seconds: float | None = None
        self.frozen: FrozenWeights | None = None
        """What is not trained, as it was when the model was first built."""
        self._is_base = False

    @property
    def model(self) -> nn.Module:
        """The model, built at the first need."""
        # Under seed 0 whatever seed is asked for first: frozen weights are then the same in every process.
        return self._model if self._model is not None else self._build(0)

    @property
    def rebuildable(self) -> bool:
        """Whether another model may be built: not where one base, frozen, is loaded and stays."""
        return self._contract.rebuildable and not self._is_base

    def sketch(self) -> nn.Module:
        """The model, built without keeping its initial weights: for a prediction, not for training."""
        if self._model is None:
            model = self._call(0)
            check_trainable(model, self._contract.label)
            contract.complete(self._contract, model)
            self._model = model
        return self._model

    def at(self, seed: int) -> nn.Module:
        """The model with the initial state of `seed`, written in place."""
        model = self.model
        self._group.rest(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(self._trainable.get(name, parameter.requires_grad))
        state = self._states.get(seed)
        write(model, self._state_of(model, seed) if state is None else state)
        return model

    def anew(self, seed: int) -> nn.Module:
        """Another model, built under `seed`, in the place of the live one."""
        self._model = None  # before the next is built: two would need twice the memory
        return self._build(seed)

    def drop(self) -> None:
        """Lets the model go."""
        self._model = None

    def _build(self, seed: int) -> nn.Module:
        begin = time.perf_counter()
        model = self._call(seed)
        check_trainable(model, self._contract.label)
        if not is_placed(model):
            model.to(self._device)
        self._group.take(model, self._contract.label)
        self._group.check_weights(model, self._contract.label)
        self._model = model
        self._trainable = {name: p.requires_grad for name, p in model.named_parameters()}
        contract.complete(self._contract, model)
        if self.build_seconds is None:
            self.frozen = frozen.look(model)
            self._is_base = is_placed(model) or adapters.is_adapted(model) or frozen.is_base(model)
        self._reset(model, seed)
        self._states.put(seed, capture(model))
        if self.build_seconds is None:
            self.build_seconds = time.perf_counter() - begin
        return model

    def _call(self, seed: int) -> nn.Module:
        if self._contract.reset is not None:
            seed = 0  # reset() makes the difference between seeds; all else is the same in every process
        seed_everything(derive(seed, "build"))
        model = self._code("build_model()", self._contract.build_model)
        if not isinstance(model, nn.Module):
            kind = "None" if model is None else f"a {type(model).__name__}"
            raise WorkloadError(
                f"{self._contract.label}: build_model() returned {kind}, not a torch.nn.Module.",
                "Return the model itself.",
            )
        return model

    def _state_of(self, model: nn.Module, seed: int) -> dict[str, Tensor]:
        """The initial state of a seed that has none yet."""
        first = self._states.any()
        if self._contract.reset is not None:
            write(model, first)
            self._reset(model, seed)
            state = capture(model)
        elif not self.rebuildable:
            state = self._redrawn(model, seed, first)
        else:
            state = capture(self._call(seed))
        self._states.put(seed, state)
        return state

    def _redrawn(self, model: nn.Module, seed: int, first: dict[str, Tensor]) -> dict[str, Tensor]:
        """The initial state of a seed around a base that is not built again."""
        write(model, first)
        seed_everything(derive(seed, "reset"))
        if self._is_base and adapters.redraw(model):
            return capture(model)
        self._note(
            "All seeds start from the same weights: they differ in the order of the data only."
            + (
                " Write reset(model, seed) to draw the trained part anew."
                if self._contract.rebuildable
                else ""
            )
        )
        return first

    def _reset(self, model: nn.Module, seed: int) -> None:
        if self._contract.reset is None:
            return
        seed_everything(derive(seed, "reset"))
        with torch.no_grad():
            self._code("reset()", self._contract.reset, model, seed)
