"""A policy: which optimizers are tried, from where, how far, and what decides between them.

Shipped ones are read by name (`load("balanced")`), anyone's own by path. Imports no torch, except when a
candidate of another package (`pytorch_optimizer:Lion`) is used, whose constructor has to be looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from autoopt import options
from autoopt.errors import PolicyError, UsageError
from autoopt.optim import registry
from autoopt.optim.spec import OptimSpec, Range
from autoopt.policy_file import Located, Problem, read
from autoopt.policy_options import Tune
from autoopt.records import Hyper
from autoopt.units import parse_bytes, parse_seconds

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Candidate(_Part):
    """How one optimizer is searched; what is left out comes from its OptimSpec."""

    lr: Positive | None = Field(None, description="learning rate of the first trial")
    range: tuple[Positive, Positive] | None = Field(None, description="of the learning rate")
    hyper: dict[str, float] = Field(default={}, description="start values of other hyperparameters")
    search: list[str] | None = Field(None, description="tuned after the learning rate, most important first")

    @field_validator("range")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError(f"a range goes from low to high, not from {value[0]:g} to {value[1]:g}")
        return value

    def start(self, spec: OptimSpec) -> Hyper:
        """Hyperparameters of the first trial: the OptimSpec's start with the policy's laid over it.

        Raises:
            PolicyError: a name that the optimizer does not have, or a start outside its range.

        >>> Candidate(lr=1e-3).start(registry.get("sgd"))
        {'lr': 0.001, 'momentum': 0.9, 'weight_decay': 0.0005}
        """
        for key, text, hint in self.problems(spec):
            raise PolicyError(f"The policy's {spec.name}, {key}: {text}.", hint)
        return spec.start() | self.hyper | ({"lr": self.lr} if self.lr is not None else {})

    def ranges(self, spec: OptimSpec) -> dict[str, Range]:
        """What is searched and where: the learning rate first, then the rest in the order of importance.

        >>> list(Candidate(search=["weight_decay"]).ranges(registry.get("adamw")))
        ['lr', 'weight_decay']
        """
        rest = [key for key in spec.space if key != "lr"] if self.search is None else self.search
        return {"lr": self._lr_range(spec)} | {key: spec.space[key] for key in rest}

    def _lr_range(self, spec: OptimSpec) -> Range:
        return spec.space["lr"] if self.range is None else Range(*self.range)

    def problems(self, spec: OptimSpec) -> Iterator[tuple[str, str, str]]:
        """What does not fit the optimizer: (key, what is wrong, way out)."""
        known, searchable = spec.flat(), [key for key in spec.space if key != "lr"]
        for key in self.hyper:
            if key in options.NAMES:
                yield f"hyper.{key}", "this is no setting of an optimizer", f"See `tune: {{{key}: ...}}`."
            elif key == "lr" or key not in known:
                yield (
                    f"hyper.{key}",
                    f"{spec.name} has no such start value",
                    _nearest(key, known, exclude="lr"),
                )
        for key in self.search or []:
            if key not in searchable:
                yield f"search.{key}", f"{spec.name} has no range for {key}", _nearest(key, searchable)
        span, lr = self._lr_range(spec), known["lr"] if self.lr is None else self.lr
        if lr not in span:
            key = "range" if self.lr is None else "lr"
            yield key, f"the start {lr:g} is outside {span.low:g} to {span.high:g}", "Set both lr and range."
        for key in searchable if self.search is None else self.search:
            value = self.hyper.get(key)
            if value is not None and key in searchable and value not in spec.space[key]:
                low, high = spec.space[key].low, spec.space[key].high
                yield (
                    f"hyper.{key}",
                    f"the start {value:g} is outside the searched {low:g} to {high:g}",
                    f"Move it inside, or leave {key} out of `search` to hold it fixed.",
                )


class Limits(_Part):
    """What a recommended optimizer may cost."""

    memory: str | int | None = Field(None, description='peak of a step, e.g. "8GB"')
    step_time: float | str | None = Field(
        None, description='0.5, "200ms", or "2x": relative to AdamW\'s step'
    )

    @field_validator("memory")
    @classmethod
    def _size(cls, value: str | int | None) -> str | int | None:
        try:
            if value is not None and parse_bytes(value) <= 0:
                raise ValueError("a memory limit is above zero")
        except UsageError as error:
            raise ValueError(f"{error.message} {error.hint}") from error
        return value

    @field_validator("step_time")
    @classmethod
    def _time(cls, value: float | str | None) -> float | str | None:
        if value is None:
            return None
        if isinstance(value, str) and (relative := re.fullmatch(r"(\d+(?:\.\d+)?)x", value)):
            if float(relative[1]) <= 0:
                raise ValueError("a step time is above zero")
            return value
        try:
            parse_seconds(value)
        except UsageError as error:
            if "above zero" in error.message:
                raise ValueError("a step time is above zero") from error
            raise ValueError(
                f'a step time is seconds (0.5, "200ms") or relative to AdamW ("2x"), not {value!r}'
            ) from error
        return value

    def within(self, text: str) -> Limits:
        """These limits with those of a command line laid over them.

        Args:
            text: "memory=20GB,step_time=0.2s"; a limit that is not named stays.

        Raises:
            UsageError: not of this form, a limit that does not exist, or a size or time that cannot be used.

        >>> Limits(memory="8GB").within("step_time=2x").words()
        'memory=8GB, step_time=2x'
        """
        names, found = list(Limits.model_fields), dict[str, str | float]()
        hint = (
            "Write it like --limit memory=20GB,step_time=0.2s; step_time may also be 2x, relative to AdamW's."
        )
        for part in text.split(","):
            name, equals, value = (word.strip() for word in part.partition("="))
            if not equals or not value or not name:
                raise UsageError(f"--limit {text!r} cannot be read at {part.strip()!r}.", hint)
            if name not in names:
                raise UsageError(f"There is no limit {name!r}.", f"{_nearest(name, names)} {hint}")
            if name in found:
                raise UsageError(f"--limit names {name} twice.", hint)
            # A bare number is what it is in a policy file: bytes, or seconds.
            found[name] = (
                float(value) if re.fullmatch(r"\d+\.\d+|\d+", value) and name == "step_time" else value
            )
        try:
            return Limits.model_validate({**self.model_dump(), **found})
        except ValidationError as error:
            what = re.sub("^Value error, ", "", error.errors()[0]["msg"]).rstrip(".")
            raise UsageError(f"--limit {text!r}: {what}.", hint) from None

    def words(self) -> str:
        """The limits as they are given; empty without any."""
        return ", ".join(f"{name}={value}" for name, value in self.model_dump().items() if value is not None)


class Policy(_Part):
    """The content of a policy file."""

    schema_: Literal["autoopt-policy/1"] = Field(alias="schema")
    name: str
    explain: str = ""
    objective: Literal["loss_at_steps", "loss_at_time"] = "loss_at_steps"
    tolerance: float = Field(
        0.02, ge=0, lt=1, description="relative difference of losses that counts as none"
    )
    tie_order: list[Literal["time", "memory"]] = Field(["time", "memory"], min_length=1, max_length=2)
    limits: Limits = Limits()
    tune: Tune = Tune()
    confirm: float = Field(
        0.25, ge=0, le=0.6, description="share of the budget for fresh seeds, where it has room for any"
    )
    max_optimizers: int | None = Field(None, ge=1)
    no_decay: list[Literal["bias", "norm", "embedding"]] = ["bias", "norm", "embedding"]
    candidates: dict[str, Candidate] = Field(min_length=1, description="most promising first")

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    def limited(self, text: str | None) -> Policy:
        """The policy with limits of a command line laid over its own; itself where none are given.

        Raises:
            UsageError: see `Limits.within`.
        """
        return self if text is None else self.model_copy(update={"limits": self.limits.within(text)})

    @field_validator("candidates", mode="before")
    @classmethod
    def _bare_names(cls, value: Any) -> Any:
        """`adamw:` with nothing after it is a candidate as its OptimSpec has it."""
        if isinstance(value, dict):
            return {key: {} if part is None else part for key, part in value.items()}
        return value

    def restrict(self, names: Sequence[str]) -> Policy:
        """The policy with these optimizers and no others, in the order given.

        Raises:
            UnknownOptimizer: one is not known; the nearest names are given.
            UsageError: no name at all.
        """
        if not names:
            raise UsageError("No optimizer is named.", "Give at least one: --optimizers adamw,sgd.")
        wanted = {name: self.candidates.get(name, Candidate()) for name in names if registry.get(name)}
        return self.model_copy(update={"candidates": wanted, "max_optimizers": None})


def load(name_or_path: str) -> Policy:
    """A shipped policy by its name, or one of your own by its path.

    Raises:
        PolicyError: no such policy, or something wrong in it: names file, line and key.

    >>> load("quick").max_optimizers
    4
    """
    folder = _folder()
    stems = _stems(folder)
    if name_or_path in stems:
        return _read(folder / f"{name_or_path}.yaml")
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return _read(path)
    near = get_close_matches(name_or_path, stems, n=2, cutoff=0.5)
    raise PolicyError(
        f"There is no policy {name_or_path!r}.",
        f"{_or(near)} " * bool(near) + f"Shipped are {', '.join(stems)}; your own is given as a .yaml file.",
    )


def shipped() -> list[Policy]:
    """All policies that come with autoopt, the default one first."""
    folder = _folder()
    return [_read(folder / f"{stem}.yaml") for stem in _stems(folder)]


def _folder() -> Path:
    """`autoopt/policies` when installed, `policies` beside the package in a checkout of the source."""
    package = Path(str(resources.files("autoopt")))
    inside = package / "policies"
    return inside if inside.is_dir() else package.parent / "policies"


def _stems(folder: Path) -> list[str]:
    return sorted((path.stem for path in folder.glob("*.yaml")), key=lambda stem: (stem != "balanced", stem))


def _read(path: Path) -> Policy:
    document = read(path)
    try:
        policy = Policy.model_validate(document.data)
    except ValidationError as error:
        raise document.error(_pydantic_problems(error)) from None
    problems = list(_candidate_problems(policy))
    if problems:
        raise document.error(problems)
    return policy


def _pydantic_problems(error: ValidationError) -> Iterator[Problem]:
    for item in error.errors():
        where: Located = tuple(item["loc"])
        text = re.sub("^Value error, ", "", item["msg"])
        hint = ""
        if item["type"] == "extra_forbidden":
            text, hint = "there is no such key", _nearest(str(where[-1]), _keys_at(where[:-1]))
        elif item["type"] == "missing":
            text, hint = "this key is missing", "Add it; `autoopt policies balanced` shows a whole policy."
        yield where, text, hint


def _keys_at(where: Located) -> list[str]:
    part: type[BaseModel] = Policy
    if where:
        parts: dict[str, type[BaseModel]] = {"limits": Limits, "tune": Tune, "candidates": Candidate}
        part = parts[str(where[0])]
    return [field.alias or name for name, field in part.model_fields.items()]


def _candidate_problems(policy: Policy) -> Iterator[Problem]:
    for name, candidate in policy.candidates.items():
        if ":" in name:
            continue  # described by its package's own constructor, which is imported only when it is used
        try:
            spec = registry.get(name)
        except UsageError as error:
            yield ("candidates", name), error.message.rstrip("."), error.hint
            continue
        for key, text, hint in candidate.problems(spec):
            yield ("candidates", name, *key.split(".")), text, hint


def _nearest(key: str, known: Sequence[str] | dict[str, float], exclude: str = "") -> str:
    names = [name for name in known if name != exclude]
    near = get_close_matches(key, names, n=2, cutoff=0.5)
    return _or(near) if near else f"There are {', '.join(names)}."


def _or(names: Sequence[str]) -> str:
    return f"Did you mean {' or '.join(names)}?"
