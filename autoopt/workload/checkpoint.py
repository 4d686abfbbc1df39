"""A half-trained net: its weights, and the state of the optimizer that brought it there."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoopt.errors import WorkloadError
from autoopt.records import Settings
from autoopt.schedule import multiplier, warmup_steps
from autoopt.workload.baseline import UserOptimizer, hyper_of

_MODEL = ("model", "state_dict", "model_state_dict")
_OPTIMIZER = ("optimizer", "optimizer_states", "optimizer_state_dict")
_STEP = ("step", "global_step")
_PREFIXES = ("module.", "_orig_mod.")
"""What wrappers (DistributedDataParallel, torch.compile) put before the names of parameters."""
_WAY_OUT = (
    'Save torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, path).'
)


@dataclass(frozen=True)
class Checkpoint:
    """What a training left behind.

    Args:
        source: the file's name, or words.
        model: the model's state.
        optimizer: the optimizer's state, where it was saved.
        step: optimizer steps that were taken; None: not told.
        files: what it was read from; none of a dictionary.
    """

    source: str
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any] | None
    step: int | None
    files: tuple[Path, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 of the content of its files, by which a resume sees that it is another one; "" without files."""
        if not self.files:
            return ""
        whole = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as content:
                whole.update(hashlib.file_digest(content, "sha256").digest())
        return whole.hexdigest()

    @property
    def done(self) -> int:
        """Steps taken, as far as is told."""
        return self.step or 0

    def rest(self, whole: Settings) -> Settings:
        """The settings of what remains of a run.

        A scheduler of the user's is drawn over the whole run, so what starts anew has a cosine of its own.

        Raises:
            WorkloadError: nothing remains.
        """
        left = whole.steps - self.done
        if left < 1:
            raise WorkloadError(
                f"{self.source} is of step {self.done}, and the run has {whole.steps}: nothing remains.",
                "Give the length of the whole run, STEPS or --steps.",
            )
        update: dict[str, Any] = {"steps": left}
        if whole.schedule == "yours":
            update |= {"schedule": "cosine", "origins": {**whole.origins, "schedule": "default"}}
        return whole.model_copy(update=update)

    def write(self, model: nn.Module) -> None:
        """Puts the weights into the model, in place.

        Raises:
            WorkloadError: it is another model's.
        """
        state = self._named_as(model)
        try:
            missing, left = model.load_state_dict(state, strict=False)
        except RuntimeError as error:
            detail = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), str(error))
            raise WorkloadError(
                f"{self.source} does not fit the model: {detail}", "Give the checkpoint of this very model."
            ) from error
        missing = _not_tied(model, missing, state)
        if missing or left:
            what = f"it has no {missing[0]}" if missing else f"the model has no {left[0]}"
            raise WorkloadError(
                f"{self.source} does not fit the model: {what}.", "Give the checkpoint of this very model."
            )

    def _named_as(self, model: nn.Module) -> dict[str, Tensor]:
        """The state without the prefixes of wrappers that the model does not have, and with those that it has."""
        state, wanted = dict(self.model), list(model.state_dict())
        for prefix in _PREFIXES:
            theirs = all(name.startswith(prefix) for name in state)
            ours = all(name.startswith(prefix) for name in wanted)
            if theirs and not ours:
                state = {name.removeprefix(prefix): value for name, value in state.items()}
            elif ours and not theirs:
                state = {prefix + name: value for name, value in state.items()}
        return state

    def restore(self, user: UserOptimizer, settings: Settings, rest: Settings) -> UserOptimizer:
        """The user's optimizer as it was, with what remains of its schedule.

        Args:
            user: theirs, made anew, at its initial rates.
            settings: of the whole run.
            rest: of what remains.

        Returns:
            The optimizer at the rate of this step; its schedule falls from 1 on. Without a scheduler of theirs, and
            without a schedule that they name, the rate decays as the settings say, without warm-up.

        Raises:
            WorkloadError: the state is another optimizer's.
        """
        begin = self.done / settings.steps
        shape = user.schedule or _named(settings)
        now = 1.0 if shape is None else shape(begin)
        if self.optimizer is not None:
            self._load(user)
        else:
            for group in user.optimizer.param_groups:
                group["lr"] *= now
        for group in user.optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return replace(user, hyper=hyper_of(user.optimizer), schedule=_tail(shape, begin, now, rest))

    def _load(self, user: UserOptimizer) -> None:
        assert self.optimizer is not None
        name = type(user.optimizer).__name__
        hint = "Let configure_optimizers() return the optimizer that was saved, over the same parameters."
        groups = self.optimizer.get("param_groups") or [{}]
        for key in ("betas", "momentum"):
            if (key in groups[0]) is not (key in user.optimizer.defaults):
                raise WorkloadError(f"The optimizer's state in {self.source} is not of {name}.", hint)
        try:
            # A copy: what is loaded is used as it is, and trained with.
            saved = _grouped_as(user.optimizer, copy.deepcopy(dict(self.optimizer)))
            user.optimizer.load_state_dict(saved)
        except (ValueError, KeyError) as error:
            raise WorkloadError(
                f"The optimizer's state in {self.source} does not fit your {name}: {error}", hint
            ) from error


def _grouped_as(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """The state with the groups of the optimizer, where it has more, and they are empty or differ in nothing.

    A Hugging Face Trainer makes two, with and without weight decay, also where there is none; here they are one.
    """
    groups = saved.get("param_groups") or []
    if len(groups) <= len(optimizer.param_groups):
        return saved
    filled = [group for group in groups if group["params"]]
    if len(optimizer.param_groups) == 1 and filled:
        first, *others = ({k: v for k, v in group.items() if k != "params"} for group in filled)
        if all(other == first for other in others):
            filled = [{**first, "params": [number for group in filled for number in group["params"]]}]
    return {**saved, "param_groups": filled}


def _named(whole: Settings) -> Callable[[float], float] | None:
    """The whole run's schedule, where the user names one (SCHEDULE, a Trainer's arguments): by the share that is done."""
    if whole.schedule == "yours" or whole.origins.get("schedule", "default") == "default":
        return None
    warm = warmup_steps(whole.warmup, whole.steps)
    return lambda share: multiplier(whole.schedule, round(share * whole.steps), whole.steps, warm)


def _not_tied(model: nn.Module, missing: Sequence[str], state: Mapping[str, Tensor]) -> list[str]:
    """Of what a state lacks, that which is no second name of what it has: safetensors keeps tied weights once."""
    tensors = model.state_dict(keep_vars=True)
    written = {id(tensors[name]) for name in state if name in tensors}
    return [name for name in missing if id(tensors[name]) not in written]


def _tail(
    shape: Callable[[float], float] | None, begin: float, now: float, rest: Settings
) -> Callable[[float], float]:
    """What remains of a schedule, as a multiple of the rate at its begin; by the share of the rest that is done."""
    if shape is None:
        return lambda share: multiplier(rest.schedule, round(share * rest.steps), rest.steps)
    if now <= 0:  # it was over already
        return lambda _share: 0.0
    return lambda share: shape(begin + (1 - begin) * share) / now


def read(given: Any) -> Checkpoint:
    """A checkpoint from a file, a folder of a Hugging Face Trainer, or a dictionary.

    Taken are dictionaries with "model" (or "state_dict", as Lightning has it) and, if there, "optimizer" and "step"; a bare
    state of a model; `checkpoint-500/`. In a dictionary the objects may stand for their states.

    Raises:
        WorkloadError: not there, not readable, or without a model.

    >>> read({"model": nn.Linear(1, 1), "step": 3}).done
    3
    """
    if isinstance(given, Mapping):
        return _of(given, "the checkpoint")
    path = Path(given)
    if path.is_dir():
        return _of_folder(path)
    return replace(_of(_loaded(path), path.name), files=(path,))


def _loaded(path: Path) -> Any:
    if not path.exists():
        raise WorkloadError(f"There is no checkpoint {path}.", "Check the path.")
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError as error:
            raise WorkloadError(f"{path} needs safetensors.", "pip install safetensors") from error
        return load_file(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WorkloadError(
            f"{path.name} holds more than tensors, numbers and words, which loading would have to run: "
            f"{str(error).splitlines()[0]}",
            f"{_WAY_OUT} Or load it yourself, and hand over the dictionary: choose(checkpoint=...).",
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise WorkloadError(f"{path.name} is no checkpoint of torch's: {error}", _WAY_OUT) from error


def _of_folder(path: Path) -> Checkpoint:
    weights = next(
        (path / n for n in ("model.safetensors", "pytorch_model.bin") if (path / n).exists()), None
    )
    if weights is None:
        raise WorkloadError(
            f"{path} has neither model.safetensors nor pytorch_model.bin.",
            "Give a file, or a checkpoint folder of a Hugging Face Trainer whose weights are in one file.",
        )
    content: dict[str, Any] = {"model": _loaded(weights)}
    files = [weights]
    if (path / "optimizer.pt").exists():
        files.append(path / "optimizer.pt")
        content["optimizer"] = _loaded(files[-1])
    state = path / "trainer_state.json"
    if state.exists():
        files.append(state)
        content["step"] = json.loads(state.read_text()).get("global_step")
    return replace(_of(content, path.name), files=tuple(files))


def _of(content: Any, source: str) -> Checkpoint:
    if not isinstance(content, Mapping):
        raise WorkloadError(f"{source} holds a {type(content).__name__}, not a dictionary.", _WAY_OUT)
    model = _first(content, _MODEL)
    if model is None and content and all(isinstance(value, Tensor) for value in content.values()):
        model = content
    state = _state(model)
    if not isinstance(state, Mapping) or not state:
        found = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise WorkloadError(f'{source} has no "model"; it has {found}.', _WAY_OUT)
    optimizer = _first(content, _OPTIMIZER) if model is not content else None
    if isinstance(optimizer, list | tuple):  # Lightning's
        if len(optimizer) > 1:
            raise WorkloadError(
                f"{source} is of {len(optimizer)} optimizers.", "autoopt compares single optimizers."
            )
        optimizer = optimizer[0] if optimizer else None
    saved = None if optimizer is None else copy.deepcopy(_state(optimizer))
    step = _first(content, _STEP) if model is not content else None
    return Checkpoint(
        source=source,
        # Copies: a live model is trained by the trials.
        model={
            str(name): value.detach().to("cpu", copy=True)
            for name, value in state.items()
            if isinstance(value, Tensor)
        },
        optimizer=saved,
        step=_steps_of(saved) if step is None else int(step),
    )


def _first(content: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((content[name] for name in names if content.get(name) is not None), None)


def _state(value: Any) -> Any:
    """A state, or that of an object which has one."""
    return value.state_dict() if hasattr(value, "state_dict") else value


def _steps_of(optimizer: Mapping[str, Any] | None) -> int | None:
    """What an optimizer of Adam's kind has counted."""
    states = list((optimizer or {}).get("state", {}).values())
    counts = [int(state["step"]) for state in states if isinstance(state, Mapping) and "step" in state]
    return max(counts, default=None)
