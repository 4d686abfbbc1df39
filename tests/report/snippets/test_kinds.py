"""Each kind's snippet, executed in its library, takes the steps of `Recommendation.build`, to the last bit or nearly."""

from __future__ import annotations

import argparse
import os
import pkgutil
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from autoopt.records import GroupRecord, Recommendation
from autoopt.report.snippets import snippet
from tests.report.snippets import steps
from tests.report.snippets.steps import Net, built, loop, noted, prepared, recommend, same

ROOT = Path(__file__).parents[3]
every = pytest.mark.parametrize("name", steps.OPTIMIZERS)


@every
def test_plain(name: str) -> None:
    rec, model = recommend(name), Net()
    names: dict[str, Any] = {"torch": torch, "model": model}
    exec(rec.snippet(), names)
    same(loop(model, names["optimizer"], names["scheduler"].step), built(rec))


@every
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec")
@pytest.mark.filterwarnings("ignore:.*number of training batches")
def test_lightning(name: str, tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    rec = recommend(name)
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": tmp_path,
    }
    names: dict[str, Any] = {"quiet": quiet}
    exec(rec.snippet("lightning").replace("lightning.Trainer(", "lightning.Trainer(**quiet, "), names)

    class Mine(names["YourModule"]):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = Net()

        def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
            return self.model(**batch)["loss"]

        def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
            for optimizer in self.trainer.optimizers:
                assert not optimizer.param_groups[0].get("train_mode", False)

        def configure_optimizers(self) -> Any:
            made = super().configure_optimizers()
            self.seen = noted(prepared(made[0][0]), self)
            return made

    module = Mine()
    loader = DataLoader(steps.samples(), batch_size=steps.SIZE)  # type: ignore[arg-type]
    names["trainer"].fit(module, loader, loader)
    # Lightning sums the gradient's norm in the order of the groups, and validation swaps schedule-free's weights.
    same(module.seen, built(rec), atol=1e-6)


class Stream(IterableDataset[dict[str, Tensor]]):
    """The samples in their order: the Trainer shuffles a list."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return iter(steps.samples())


@every
def test_transformers(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    rec, model = recommend(name), Net()
    quiet = {
        "output_dir": str(tmp_path),
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    names: dict[str, Any] = {"model": model, "train_dataset": Stream(), "quiet": quiet}
    exec(rec.snippet("transformers").replace('output_dir="out"', "**quiet"), names)
    seen = noted(prepared(names["optimizer"]), model)
    names["trainer"].train()
    same(seen, built(rec))


@pytest.fixture
def accelerator_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Accelerate keeps its state for the process."""
    state = pytest.importorskip("accelerate.state")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    state.AcceleratorState._reset_state(True)
    state.GradientState._reset_state()
    yield
    state.AcceleratorState._reset_state(True)
    state.GradientState._reset_state()


@every
@pytest.mark.usefixtures("accelerator_anew")
def test_accelerate(name: str) -> None:
    rec = recommend(name)
    before: list[Tensor] = []

    def loss_of(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        if not before:
            prepared(names["optimizer"].optimizer)
        before.append(steps.weights(model))
        return model(**batch)["loss"]

    loader = DataLoader(steps.samples(), batch_size=steps.SIZE)  # type: ignore[arg-type]
    names: dict[str, Any] = {"model": Net(), "train_loader": loader, "loss_of": loss_of}
    exec(rec.snippet("accelerate"), names)
    same([*before[1:], steps.weights(names["model"])], built(rec))
    assert names["scheduler"].scheduler.last_epoch == steps.STEPS


PROCESSES = """
import sys, torch, json
from torch.utils.data import DataLoader
from tests.report.snippets import steps
names = {
    "model": steps.Net(),
    "train_loader": DataLoader(steps.samples(), batch_size=2),
    "loss_of": lambda model, batch: model(**batch)["loss"],
}
exec(open(sys.argv[1]).read(), names)
assert names["accelerator"].num_processes == 2
assert names["scheduler"].scheduler.last_epoch == steps.STEPS
"""


@pytest.mark.long
def test_accelerate_steps_the_schedule_once_per_step_of_two_processes(tmp_path: Path) -> None:
    """Accelerate's own count would be two, and the schedule over after half of the run."""
    pytest.importorskip("accelerate")
    (tmp_path / "snippet.py").write_text(recommend("adamw").snippet("accelerate"))
    (tmp_path / "program.py").write_text(PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*launch, str(tmp_path / "program.py"), str(tmp_path / "snippet.py")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("accelerator_anew")
def test_accelerate_steps_the_schedule_once_per_accumulated_step() -> None:
    rec = recommend("sgd", settings=recommend("sgd").settings.model_copy(update={"accumulate": 2}))
    loader = DataLoader(steps.samples(), batch_size=steps.SIZE)  # type: ignore[arg-type]
    names: dict[str, Any] = {
        "model": Net(),
        "train_loader": loader,
        "loss_of": lambda model, batch: model(**batch)["loss"],
    }
    exec(rec.snippet("accelerate"), names)
    assert names["scheduler"].scheduler.last_epoch == steps.STEPS // 2


@every
def test_timm(name: str) -> None:
    pytest.importorskip("timm")
    rec, model = recommend(name), Net()
    names: dict[str, Any] = {"model": model}
    exec(rec.snippet("timm"), names)
    updates = iter(range(1, steps.STEPS + 1))
    found = loop(model, names["optimizer"], lambda: names["lr_scheduler"].step_update(next(updates)))
    same(found, built(rec))


def test_timm_multiplies_a_groups_rate_once() -> None:
    """timm's schedulers multiply by `lr_scale`, which our groups carry too."""
    pytest.importorskip("timm")
    rec = recommend("adamw")
    groups = [GroupRecord(label="group 0: weights", tensors=1, parameters=1, lr_scale=10.0)]
    kept = rec.model_copy(update={"recommendation": rec.recommendation.model_copy(update={"groups": groups})})
    model = Net()
    yours = torch.optim.SGD([{"params": model.net[0].parameters(), "lr": 1.0}], lr=0.1)
    yours.add_param_group({"params": model.net[3].parameters()})
    names: dict[str, Any] = {"model": model, "yours": yours}
    exec(kept.snippet("timm").replace("yours = ...", "pass"), names)
    rates = {group["lr"] for group in names["optimizer"].param_groups}
    names["lr_scheduler"].step_update(1)
    assert {group["lr"] for group in names["optimizer"].param_groups} == {2 * rate for rate in rates}


def train_py() -> argparse.ArgumentParser:
    """The options of timm's train.py that the snippet may name, as it declares them."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--opt", default="sgd", type=str)
    parser.add_argument("--opt-eps", default=None, type=float)
    parser.add_argument("--opt-betas", default=None, type=float, nargs="+")
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight-decay", type=float, default=2e-5)
    parser.add_argument("--opt-kwargs", nargs="*", default=[])
    parser.add_argument("--clip-grad", type=float, default=None)
    parser.add_argument("--grad-accum-steps", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--sched", type=str, default="cosine")
    parser.add_argument("--sched-on-updates", action="store_true")
    parser.add_argument("--lr", type=float, default=None)
    parser.add_argument("--warmup-lr", type=float, default=1e-5)
    parser.add_argument("--min-lr", type=float, default=0)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--warmup-epochs", type=int, default=5)
    parser.add_argument("--cooldown-epochs", type=int, default=0)
    return parser


def arguments_of(rec: Recommendation) -> argparse.Namespace:
    lines = [line[6:] for line in rec.snippet("timm").splitlines() if line.startswith("#     --")]
    return train_py().parse_args(shlex.split(" ".join(lines)))


@pytest.mark.parametrize("name", ["adamw", "sgd", "nadam", "radam", "rmsprop", "adagrad"])
def test_arguments_of_timms_train_py(name: str) -> None:
    """Without a warm-up, in whole epochs and without embeddings they are exact, schedule included."""
    pytest.importorskip("timm")
    from timm.optim import create_optimizer_v2, optimizer_kwargs
    from timm.scheduler import create_scheduler_v2, scheduler_kwargs

    rec = recommend(name)
    choice = rec.recommendation.model_copy(update={"warmup_steps": 0})
    rec = rec.model_copy(update={"recommendation": choice})
    parsed, model = arguments_of(rec), Net()
    rest = {key: yaml.safe_load(value.lower()) for key, value in (p.split("=") for p in parsed.opt_kwargs)}
    optimizer = create_optimizer_v2(model, **optimizer_kwargs(parsed), **rest)
    scheduler, epochs = create_scheduler_v2(optimizer, **scheduler_kwargs(parsed), updates_per_epoch=2)
    assert epochs * 2 == steps.STEPS
    updates = iter(range(1, steps.STEPS + 1))
    found = loop(model, optimizer, lambda: scheduler.step_update(next(updates)), clip=parsed.clip_grad)
    # Another formula for the same cosine.
    same(found, built(rec), atol=1e-6)


@every
def test_hydra(name: str) -> None:
    pytest.importorskip("hydra")
    from omegaconf import OmegaConf

    rec, model = recommend(name), Net()
    text = rec.snippet("hydra")
    # As part of a larger configuration, where projects have it.
    config = OmegaConf.create({"model": {"trainer": yaml.safe_load(text)}})
    code = [line[6:] for line in text.splitlines() if line.startswith("#     ")]
    names: dict[str, Any] = {"model": model, "cfg": config.model.trainer}
    exec("\n".join(code), names)
    same(loop(model, names["optimizer"], names["scheduler"].step), built(rec))
    assert "omegaconf" not in str([type(v) for g in names["optimizer"].param_groups for v in g.values()])


@every
def test_the_copied_recipe_of_torchtune(name: str) -> None:
    """Its lines, with what torchtune's `config.instantiate` does with a component; torchtune is not installed here."""
    rec, model = recommend(name), Net()
    made = snippet(rec, "torchtune")
    config = yaml.safe_load(made.text)["optimizer"]
    class_ = config.pop("_component_")
    assert class_ == rec.recommendation.class_.replace(":", ".")
    code = [line[6:] for line in made.text.splitlines() if line.startswith("#     ")]
    if name == "adahessian":
        assert not code
        assert "second derivatives" in " ".join(made.differences)
        return

    def instantiate(told: SimpleNamespace, *positional: Any) -> Any:
        return pkgutil.resolve_name(class_)(*positional, **vars(told))

    recipe = SimpleNamespace(_model=model)
    names: dict[str, Any] = {
        "torch": torch,
        "self": recipe,
        "cfg_optimizer": SimpleNamespace(**config),
        "config": SimpleNamespace(instantiate=instantiate),
    }
    optimizer_at = next(i for i, line in enumerate(code) if line.startswith("lr_scheduler"))
    exec("\n".join(code[:optimizer_at]), names)
    recipe._optimizer = names["optimizer"]
    exec("\n".join(code[optimizer_at:]), names)
    same(loop(model, names["optimizer"], names["lr_scheduler"].step), built(rec))


@every
def test_torchtitans_configuration(name: str) -> None:
    """Only Adam and AdamW have one; the schedule's length and the clipping are told for all."""
    rec = recommend(name)
    made = snippet(rec, "torchtitan")
    told = tomllib.loads(made.text)
    assert told["training"] == {"steps": steps.STEPS, "max_norm": steps.CLIP}
    assert told["lr_scheduler"] == {"warmup_steps": 2, "decay_type": "cosine"}
    if name == "adamw":
        arguments = rec.recommendation.arguments
        assert told["optimizer"]["weight_decay"] == arguments["weight_decay"]
        assert [told["optimizer"][key] for key in ("beta1", "beta2")] == list(arguments["betas"])
    else:
        assert "optimizer" not in told
        assert name in made.differences[0]
