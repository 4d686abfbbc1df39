"""A base that is not trained: loaded once, in place, never copied, and shown to be unchanged."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoopt.errors import WorkloadError
from autoopt.records import TrialResult, TrialSpec
from autoopt.trials.execute import execute
from autoopt.workload import Workload, from_callables, frozen, guard
from autoopt.workload.frozen import look
from tests.workload import trainers

peft = pytest.importorskip("peft")
accelerate = pytest.importorskip("accelerate")
# peft asks transformers 5 by a name that it is about to give up.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

WIDTH = 300


class Int8(nn.Module):
    """A linear layer as quantizers leave it: whole numbers and their scales as buffers."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.packed: Tensor
        self.scale: Tensor
        self.register_buffer("packed", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.packed * self.scale).T


class Adapted(nn.Module):
    """A base and a low-rank adapter written by hand."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(WIDTH, 2, bias=False)
        self.up = nn.Linear(2, WIDTH, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + self.up(self.down(x))
        return out


def plain() -> Adapted:
    return Adapted(nn.Linear(WIDTH, WIDTH).requires_grad_(False))


def quantized() -> Adapted:
    return Adapted(Int8(nn.Linear(WIDTH, WIDTH)))


def parameters_of_int8() -> Adapted:
    """Frozen parameters that are no floats, as bitsandbytes has them."""
    model = quantized()
    packed = model.base.packed
    del model.base._buffers["packed"]
    model.base.packed = nn.Parameter(packed, requires_grad=False)
    return model


def offloaded(folder: Path | None = None) -> Adapted:
    """The base on the host or on a disk, put into the model for each pass by Accelerate's hooks."""
    model = plain()
    where = "cpu" if folder is None else "disk"
    for part in model.base.parameters():
        part.requires_grad_(False)
    accelerate.dispatch_model(
        model,
        {"base": where, "down": "cpu", "up": "cpu"} if folder is not None else {"": "cpu"},
        main_device="cpu",
        offload_dir=folder,
        force_hooks=True,
    )
    return model


def by_hook() -> Adapted:
    """The base's weights in a mapping beside the model, which Accelerate's hook puts in for each pass."""
    model = plain()
    accelerate.cpu_offload(model.base, "cpu")
    return model


DATA = [(x, x.roll(1, 1)) for x in torch.randn(6, 4, WIDTH, generator=torch.Generator().manual_seed(0))]


def loss(model: nn.Module, batch: Any) -> Tensor:
    error: Tensor = model(batch[0]) - batch[1]
    return error.square().mean()


@pytest.fixture
def held() -> Iterator[Callable[..., Workload]]:
    found: list[Workload] = []

    def open_(model: Any, **more: Any) -> Workload:
        found.append(from_callables(model=model, train=DATA, val=DATA[:2], loss=loss, **more))
        return found[-1]

    yield open_
    for workload in found:
        workload.close()


def trial(workload: Workload, seed: int = 0) -> TrialResult:
    spec = TrialSpec(id=0, stage="race", optimizer="adamw", hyper={"lr": 1e-2}, steps=4, seed=seed)
    result = list(execute(workload, spec))[-1]
    assert isinstance(result, TrialResult)
    return result


BASES: dict[str, Callable[[], Adapted]] = {
    "float": plain,
    "int8 buffers": quantized,
    "int8 parameters": parameters_of_int8,
    "dispatched": offloaded,
    "offloaded to the host": by_hook,
}


@pytest.mark.parametrize("make", BASES.values(), ids=BASES)
def test_the_base_stays_in_place_and_unchanged(
    make: Callable[[], Adapted], held: Callable[..., Workload], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "BASE_BYTES", 1)
    built = []

    def build() -> Adapted:
        built.append(make())
        return built[-1]

    workload = held(build)
    results = [trial(workload, seed) for seed in (0, 1, 0)]
    assert len(built) == 1, "the base is loaded once"
    before = workload.frozen
    assert before is not None
    assert before.parameters >= WIDTH * WIDTH
    assert {r.frozen for r in results} == {before.digest}
    assert all(r.loss is not None and r.loss < 1.5 for r in results)
    assert results[0].loss == pytest.approx(results[2].loss, rel=1e-6)
    kept = sum(t.nbytes for s in workload._live._states._states.values() for t in s.values())
    assert kept < WIDTH * WIDTH, "states of seeds hold what is trained"
    assert "Write reset(model, seed)" in " ".join(workload.notes)


def test_a_base_on_disk_is_left_there(held: Callable[..., Workload], tmp_path: Path) -> None:
    workload = held(lambda: offloaded(tmp_path))
    result = trial(workload)
    assert workload.frozen is not None
    assert workload.frozen.absent == 2
    assert result.frozen == workload.frozen.digest
    assert all(p.is_meta for p in workload.model.base.parameters())  # type: ignore[union-attr]


def test_a_model_in_hand_is_not_copied(
    held: Callable[..., Workload], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "BASE_BYTES", 1)
    for make in BASES.values():
        model = make()
        before = look(model)
        workload = held(model)
        copies = [k for w in workload.guard._models for k in w._tensors if isinstance(k, guard._Kept)]
        assert sum(k._value.nbytes for k in copies) < WIDTH * WIDTH
        trial(workload)
        workload.close()
        assert look(model) == before
        assert not model.up.weight.any()


def test_a_change_is_seen(held: Callable[..., Workload]) -> None:
    """A digest that nothing changes would prove nothing."""
    for make in (plain, quantized, parameters_of_int8, by_hook):
        model = make()
        before = look(model)
        assert look(model) == before
        with torch.no_grad():
            for _, value in frozen.frozen(model):
                value.add_(1)
        after = look(model)
        assert before is not None
        assert after is not None
        assert after.digest != before.digest

    def leak(model: nn.Module) -> None:
        model.base.weight.mul_(0.9)  # type: ignore[union-attr,operator]

    workload = held(plain, after_step=leak)
    assert trial(workload).frozen != workload.frozen.digest  # type: ignore[union-attr]


def test_what_is_trained_must_not_be_offloaded(held: Callable[..., Workload]) -> None:
    def build() -> Adapted:
        model = plain()
        accelerate.cpu_offload(model.up, "cpu")
        return model

    with pytest.raises(WorkloadError, match=r"up\.weight is to be trained, and is offloaded"):
        held(build).start(0, 1)


def test_all_trained_has_no_digest() -> None:
    assert look(nn.Linear(2, 2)) is None


# --- peft ----------------------------------------------------------------------------------------------


def lora(**options: Any) -> Any:
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, **options)
    return peft.get_peft_model(trainers.gpt(), config)


def adapters(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])


def test_a_trainer_of_lora_trains_adapters_only(tmp_path: Path) -> None:
    trainer = trainers.language(tmp_path, model=lora())
    before, parts = look(trainer.model), adapters(trainer.model)
    workload = from_callables(model=trainer)
    first = trial(workload)
    moved = adapters(workload.model)
    trained = trial(workload, seed=1)
    assert not torch.equal(moved, parts)
    assert before is not None
    assert {first.frozen, trained.frozen} == {before.digest}
    kept = workload._live._states.any()
    assert all("lora" in name for name in kept if name.startswith("parameter"))
    workload.close()
    gc.collect()
    assert torch.equal(adapters(trainer.model), parts)
    assert look(trainer.model) == before


@pytest.mark.parametrize("init", [True, "gaussian"])
def test_seeds_draw_adapters_of_their_own(init: Any, tmp_path: Path) -> None:
    workload = from_callables(model=trainers.language(tmp_path, model=lora(init_lora_weights=init)))
    zero, one = adapters(workload.start(0, 2)), adapters(workload.start(1, 2))
    assert not torch.equal(zero, one)
    assert torch.equal(one, adapters(workload.start(1, 2)))
    assert not any("same weights" in note for note in workload.notes)
    workload.close()


def test_trained_adapters_are_not_drawn_again(tmp_path: Path) -> None:
    model = lora()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.fill_(0.1)
    workload = from_callables(model=trainers.language(tmp_path, model=model))
    assert torch.equal(adapters(workload.start(0, 2)), adapters(workload.start(1, 2)))
    assert any("same weights" in note for note in workload.notes)
    workload.close()


def test_lora_with_gradient_checkpointing(tmp_path: Path) -> None:
    workload = from_callables(
        model=trainers.language(tmp_path, model=lora(), gradient_checkpointing=True, bf16=True)
    )
    result = trial(workload)
    assert result.loss is not None
    assert workload.model.base_model.model.transformer.gradient_checkpointing  # type: ignore[union-attr]
    workload.close()
