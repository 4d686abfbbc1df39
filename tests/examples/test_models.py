"""Every example is a short file that imports, trains and is told about in the README."""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*/model.py"))
NAMES = [file.parent.name for file in FILES]
FUNCTIONS = [name for name in NAMES if name != "digits_lightning"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / name / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def losses(
    model: torch.nn.Module, loss: Callable[[Any], torch.Tensor], loader: Any, steps: int
) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    seen = []
    for batch in islice(chain.from_iterable(repeat(loader)), steps):
        optimizer.zero_grad()
        value = loss(batch)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seen.append(value.item())
    return seen


def test_there_are_the_five_promised_kinds() -> None:
    assert NAMES == ["char_gpt", "digits_lightning", "digits_mlp", "digits_resnet", "flights"]


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_is_short_and_in_the_readme(file: Path) -> None:
    assert len(file.read_text().splitlines()) < 80
    assert f"[{file.parent.name}]({file.parent.name}/model.py)" in (EXAMPLES / "README.md").read_text()
    assert f"autoopt profile examples/{file.parent.name}/model.py" in file.read_text()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_learns_in_a_few_steps(name: str) -> None:
    torch.manual_seed(0)
    module = load(name)
    model = module.build_model()
    seen = losses(model, lambda batch: module.loss(model, batch), module.train_dataloader(), 40)
    assert statistics.fmean(seen[-5:]) < 0.8 * statistics.fmean(seen[:5])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_training_and_validation_data_are_apart_and_validation_repeats(name: str) -> None:
    module = load(name)
    held_out = list(module.val_dataloader())
    again = list(module.val_dataloader())
    assert all(torch.equal(a, b) for a, b in zip(tensors(held_out), tensors(again), strict=True))
    rows = {row.numpy().tobytes() for tensor in first(held_out) for row in tensor}
    trained_on = {row.numpy().tobytes() for tensor in first(module.train_dataloader()) for row in tensor}
    if name != "flights":  # two flights of one route on one day are alike, as flights are
        assert not rows & trained_on


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_batch_order_follows_the_seed(name: str) -> None:
    module = load(name)

    def two_batches(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return list(tensors(list(islice(module.train_dataloader(), 2))))

    assert all(torch.equal(a, b) for a, b in zip(two_batches(1), two_batches(1), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(two_batches(1), two_batches(2), strict=True))


@pytest.mark.parametrize("name", ["flights"])
def test_the_metric_is_what_evaluate_returns(name: str) -> None:
    module = load(name)
    model = module.build_model().eval()
    with torch.no_grad():
        scores = module.evaluate(model, module.val_dataloader())
    metric, direction = module.METRIC
    assert direction in ("min", "max")
    assert scores[metric] > 0


@pytest.mark.parametrize("name", ["digits_resnet", "char_gpt"])
def test_the_users_optimizer_has_every_parameter_once(name: str) -> None:
    module = load(name)
    model = module.build_model()
    groups = module.configure_optimizers(model).param_groups
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())


def test_the_weights_of_the_gpt_are_tied_and_it_does_not_see_the_future() -> None:
    module = load("char_gpt")
    model = module.build_model().eval()
    assert model.head.weight is model.token.weight
    text = torch.randint(128, (1, 20))
    changed = text.clone()
    changed[0, 12:] = 0
    with torch.no_grad():
        before, after = model(text), model(changed)
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_the_lightning_module_learns() -> None:
    pytest.importorskip("lightning")
    torch.manual_seed(0)
    model = load("digits_lightning").DigitsTransformer()
    seen = losses(model, lambda batch: model.training_step(batch, 0), model.train_dataloader(), 120)
    assert statistics.fmean(seen[-5:]) < 0.8 * statistics.fmean(seen[:5])
    assert sum(len(labels) for _, labels in model.val_dataloader()) == 597


def first(batches: Any) -> Iterator[torch.Tensor]:
    """The inputs of each batch."""
    for batch in batches:
        yield next(iter(tensors([batch])))


def tensors(batches: list[Any]) -> Iterator[torch.Tensor]:
    for batch in batches:
        yield from batch.values() if isinstance(batch, dict) else batch
