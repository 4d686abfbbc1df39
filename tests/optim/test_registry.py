"""Looking optimizers up: table, plugins, other packages, and what is missing."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from importlib import metadata

import pytest
import torch

from autoopt.errors import OptimizerUnavailable, UnknownOptimizer
from autoopt.optim import registry
from autoopt.optim.catalog import TABLE
from autoopt.optim.spec import Need, OptimSpec, Range

PLUGIN = OptimSpec("mine", "Mine", "torch.optim:Adam", "torch", {"lr": 0.1}, {"lr": Range(0.01, 1)}, 2)
NOT_A_SPEC = 3


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[metadata.EntryPoint]]:
    """Entry points of the group, as a list to fill."""
    entries: list[metadata.EntryPoint] = []
    monkeypatch.setattr(metadata, "entry_points", lambda group: entries if group == registry.GROUP else [])
    registry._rows.cache_clear()
    yield entries
    registry._rows.cache_clear()


def entry(name: str, value: str) -> metadata.EntryPoint:
    return metadata.EntryPoint(name, f"{__name__}:{value}", registry.GROUP)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownOptimizer) as caught:
        registry.get("AdamWW")
    assert "'AdamWW'" in caught.value.message
    assert "adamw" in caught.value.hint


def test_a_name_like_nothing_gets_the_list() -> None:
    with pytest.raises(UnknownOptimizer) as caught:
        registry.get("zzz")
    assert "sgd_sai" in caught.value.hint


def test_a_plugin_joins_the_table(plugins: list[metadata.EntryPoint]) -> None:
    plugins.append(entry("mine", "PLUGIN"))
    assert registry.names() == [*(spec.name for spec in TABLE), "mine"]
    assert registry.load_class(registry.get("mine")) is torch.optim.Adam


@pytest.mark.parametrize(
    ("value", "reason"),
    [("MISSING", "AttributeError"), ("NOT_A_SPEC", "not an autoopt OptimSpec"), ("TABLE_ROW", "is taken")],
)
def test_a_broken_plugin_is_left_out_and_said(
    plugins: list[metadata.EntryPoint], value: str, reason: str
) -> None:
    plugins.append(entry("bad", value))
    plugins.append(entry("mine", "PLUGIN"))
    with pytest.warns(UserWarning, match=f"'bad' is left out: .*{reason}"):
        assert registry.names()[-1] == "mine"


TABLE_ROW = TABLE[0]


def test_a_missing_package_is_a_reason_and_no_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = OptimSpec("x", "X", "no_such_package:X", "no-such-package>=2", PLUGIN.defaults, PLUGIN.space, 1)
    assert registry.why_unavailable(spec) == "no-such-package is not installed"
    with pytest.raises(OptimizerUnavailable) as caught:
        registry.load_class(spec)
    assert "pip install 'no-such-package>=2'" in caught.value.hint


def test_muon_on_an_older_torch_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.8.1+cu126" if name == "torch" else real(name))
    assert registry.why_unavailable(registry.get("muon")) == "torch 2.8.1+cu126 is too old, it comes with 2.9"
    assert registry.why_unavailable(registry.get("adamw")) is None


def test_a_class_that_its_package_lacks_is_unavailable() -> None:
    spec = OptimSpec("x", "X", "torch.optim:NoSuch", "torch", PLUGIN.defaults, PLUGIN.space, 1)
    with pytest.raises(OptimizerUnavailable, match="NoSuch"):
        registry.load_class(spec)


class WithModes(torch.optim.SGD):
    def __init__(
        self,
        params: object,
        lr: float = 0.02,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0,
    ) -> None:
        raise NotImplementedError

    def train(self) -> None: ...

    def eval(self) -> None: ...


class ByHessian(torch.optim.SGD):
    def __init__(self, params: object, lr: float, hessian_power: float = 1.0) -> None:
        raise NotImplementedError


class Wrapper(torch.optim.SGD):
    def __init__(self, params: object, base_optimizer: object, lr: float = 0.1) -> None:
        raise NotImplementedError


@pytest.fixture
def torchao(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for torchao, which need not be installed."""
    module = types.ModuleType("torchao.optim")
    for class_ in (WithModes, ByHessian, Wrapper):
        setattr(module, class_.__name__, class_)
    monkeypatch.setitem(sys.modules, "torchao", types.ModuleType("torchao"))
    monkeypatch.setitem(sys.modules, "torchao.optim", module)


@pytest.mark.usefixtures("torchao")
def test_another_packages_optimizer_is_described_by_its_constructor() -> None:
    spec = registry.get("torchao:WithModes")
    assert spec.target == "torchao.optim:WithModes"
    assert spec.space["lr"] == Range(0.02 / 100, 0.02 * 100)
    assert list(spec.space) == ["lr", "beta1", "beta2", "weight_decay"]
    assert spec.needs == {Need.TRAIN_EVAL_MODE}
    assert registry.load_class(spec) is WithModes


@pytest.mark.usefixtures("torchao")
def test_a_constructor_without_default_rate_gets_one() -> None:
    spec = registry.get("torchao:ByHessian")
    assert spec.defaults == {"lr": 1e-3}
    assert spec.needs == {Need.SECOND_ORDER}


@pytest.mark.usefixtures("torchao")
def test_a_wrapper_of_another_optimizer_cannot_be_built() -> None:
    with pytest.raises(OptimizerUnavailable, match="needs base_optimizer"):
        registry.get("torchao:Wrapper")


@pytest.mark.usefixtures("torchao")
def test_the_nearest_class_of_another_package() -> None:
    with pytest.raises(UnknownOptimizer) as caught:
        registry.get("torchao:WithMode")
    assert "WithModes" in caught.value.hint


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(OptimizerUnavailable) as caught:
        registry.get("bitsandbytes:AdamW8bit")
    assert "pip install bitsandbytes" in caught.value.hint


def test_an_unknown_package() -> None:
    with pytest.raises(UnknownOptimizer, match="not a known collection"):
        registry.get("numpy:Adam")
