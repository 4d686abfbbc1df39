"""A Trainer of Hugging Face's, trained by our loop as it would train itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoopt.errors import UsageError, WorkloadError
from autoopt.records import BASELINE, Flags, TrialResult, TrialSpec
from autoopt.trials.execute import execute
from autoopt.workload import Workload, from_callables
from tests.workload import trainers
from tests.workload.trainers import transformers

Opened = Callable[..., Workload]


@pytest.fixture
def held() -> Iterator[Opened]:
    """Holds a Trainer to the contract, and lets it go at the end."""
    found: list[Workload] = []

    def open_(trainer: Any, **flags: Any) -> Workload:
        found.append(from_callables(model=trainer, flags=Flags(**flags)))
        return found[-1]

    yield open_
    for workload in found:
        workload.close()


def trial(workload: Workload, steps: int, **hyper: float) -> TrialResult:
    """With the user's own optimizer."""
    spec = TrialSpec(id=0, stage="race", optimizer=BASELINE, hyper=hyper, steps=steps, seed=0)
    result = list(execute(workload, spec))[-1]
    assert isinstance(result, TrialResult)
    return result


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Smoothed(transformers.Trainer):  # type: ignore[misc]
    """A loss of the user's own."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **options: Any) -> Any:
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **options)
        loss = loss + 0.1 * outputs.logits.float().square().mean()
        return (loss, outputs) if return_outputs else loss


def weighted(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Tensor:
    """A compute_loss_func, averaged over all tokens of the step."""
    shifted, wanted = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return nn.functional.cross_entropy(shifted, wanted, reduction="sum") / num_items_in_batch


def with_loss(folder: Path, **options: Any) -> Any:
    return trainers.language(
        folder, lambda **k: transformers.Trainer(**k, compute_loss_func=weighted), **options
    )


MADE: dict[str, Callable[[Path], Any]] = {
    "plain": lambda folder: trainers.language(folder),
    "accumulated": lambda folder: trainers.language(
        folder, gradient_accumulation_steps=2, per_device_train_batch_size=2
    ),
    "unclipped, decayed": lambda folder: trainers.language(folder, max_grad_norm=0.0, weight_decay=0.1),
    "own loss": lambda folder: trainers.language(folder, Smoothed, gradient_accumulation_steps=2),
    "loss function": lambda folder: with_loss(folder, gradient_accumulation_steps=2),
    "label smoothing": lambda folder: trainers.language(folder, label_smoothing_factor=0.1),
    "bf16": lambda folder: trainers.language(folder, bf16=True),
    "Adafactor": lambda folder: trainers.language(folder, optim="adafactor", lr_scheduler_type="polynomial"),
    "checkpointed": lambda folder: trainers.language(folder, gradient_checkpointing=True),
}


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_it_trains_as_it_trains_itself(make: Callable[[Path], Any], tmp_path: Path, held: Opened) -> None:
    """The same batches in the same order, the same losses, the same weights at the end."""
    ours, theirs = make(tmp_path), make(tmp_path)
    for trainer in (ours, theirs):  # both in the order of the data set: the seeds of the two loops differ
        trainer.args.train_sampling_strategy, trainer.args.max_steps = "sequential", 8
    workload = held(ours)
    before = weights(workload.start(0, 8))
    trial(workload, 8)
    after = weights(workload.model)
    theirs.train()
    moved = weights(theirs.model) - before
    tolerance = 2e-2 if theirs.args.bf16 else 1e-4
    assert moved.norm() > 0.1
    assert (after - weights(theirs.model)).norm() < tolerance * moved.norm()


def state(trainer: Any) -> dict[str, Any]:
    """Everything a Trainer consists of: what it holds by identity, its model by value too."""
    found = {name: id(value) for name, value in vars(trainer).items()}
    for name, module in trainer.model.named_modules():
        hooks = {k: [*v] for k, v in vars(module).items() if k.endswith("_hooks")}
        found[f"module {name}"] = [sorted(vars(module)), module.training, hooks]
    for name, tensor in (*trainer.model.named_parameters(), *trainer.model.named_buffers()):
        found[f"tensor {name}"] = [
            id(tensor),
            tensor.data_ptr(),
            tensor.grad,
            tensor.detach().numpy().tobytes(),
        ]
    found["accelerator"] = [len(v) for k, v in vars(trainer.accelerator).items() if isinstance(v, list)]
    found["state"], found["args"] = vars(trainer.state).copy(), trainer.args.to_dict()
    found["callbacks"] = list(map(id, trainer.callback_handler.callbacks))
    found["random"] = torch.get_rng_state().numpy().tobytes()
    return found


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_the_trainer_is_untouched(tmp_path: Path) -> None:
    trainer = trainers.classification(tmp_path, gradient_checkpointing=True, neftune_noise_alpha=1.0)
    before = state(trainer)
    workload = from_callables(model=trainer)
    trial(workload, 4)
    assert state(trainer) != before, "its own model was trained"
    workload.close()
    after = state(trainer)
    assert {name for name in before if before[name] != after[name]} == set()
    assert trainer.optimizer is None
    assert trainer.train().global_step == 12


def test_settings_are_those_of_the_arguments(tmp_path: Path, held: Opened) -> None:
    options = {"max_steps": -1, "num_train_epochs": 3, "gradient_accumulation_steps": 3, "warmup_steps": 2}
    workload = held(trainers.language(tmp_path, bf16=True, max_grad_norm=0.5, **options))
    found = workload.settings
    assert (found.steps, found.accumulate, found.clip, found.precision) == (12, 3, 0.5, "bf16")
    assert (found.schedule, found.warmup) == ("linear", pytest.approx(2 / 12))
    assert set(found.origins.values()) == {"file", "default"}
    assert "a step of 1 instead of 3 batches" in " ".join(workload.notes)
    assert held(trainers.language(tmp_path, lr_scheduler_type="polynomial")).settings.schedule == "yours"
    assert held(trainers.language(tmp_path), steps=5, precision="fp32").settings.steps == 5


def test_the_baseline_is_what_it_would_make(tmp_path: Path, held: Opened) -> None:
    workload = held(trainers.language(tmp_path, adam_beta2=0.95))
    found = workload.baseline(workload.model)
    assert (found.name, found.hyper["lr"], found.hyper["beta2"]) == ("AdamW", 1e-2, 0.95)
    assert len(found.optimizer.param_groups) == 1, "without weight decay its two groups say nothing"
    workload = held(trainers.language(tmp_path, weight_decay=0.1))
    decays = [g["weight_decay"] for g in workload.baseline(workload.model).optimizer.param_groups]
    assert decays == [0.1, 0.0]


def test_optimizers_in_hand_are_copied(tmp_path: Path, held: Opened) -> None:
    net = trainers.gpt()
    own = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(own, lambda step: 1 / (1 + step))
    trainer = transformers.Trainer(
        model=net,
        args=trainers.arguments(tmp_path),
        train_dataset=trainers.sentences(),
        data_collator=trainers.collate,
        optimizers=(own, schedule),
    )
    workload = held(trainer)
    model = workload.start(0, 12)
    first, second = workload.baseline(model), workload.baseline(model)
    assert first.name == "SGD"
    assert first.optimizer is not own
    assert first.optimizer is not second.optimizer
    assert first.optimizer.param_groups[0]["params"][0] is next(iter(model.parameters()))
    assert first.schedule is not None
    assert [first.schedule(i / 12) for i in range(3)] == pytest.approx([1, 1 / 2, 1 / 3])
    trial(workload, 3)
    assert not own.state
    assert own.param_groups[0]["lr"] == 0.5


def test_seeds_differ_in_the_order_of_the_data(tmp_path: Path, held: Opened) -> None:
    workload = held(trainers.language(tmp_path))

    def first(seed: int) -> Tensor:
        workload.start(seed, 4)
        found: Tensor = next(workload.batches(seed))["input_ids"]
        return found

    assert torch.equal(first(1), first(1))
    assert first(1).shape != first(2).shape or not torch.equal(first(1), first(2))


def test_validation_is_held_out_where_there_is_none(tmp_path: Path, held: Opened) -> None:
    trainer = trainers.language(tmp_path, max_steps=-1, num_train_epochs=1)
    trainer.eval_dataset = None
    workload = held(trainer)
    assert workload.validation == "held_out"
    assert workload.settings.steps == 10, "the real run trains on all forty"
    assert workload.train_source.length == 9
    assert sum(len(b["input_ids"]) for b in workload.held.batches) == 4
    assert len(trainer.train_dataset) == 40


def test_the_validation_loss_is_the_mean_over_tokens(tmp_path: Path, held: Opened) -> None:
    workload = held(trainers.language(tmp_path))
    model = workload.start(0, 4)
    total = count = 0.0
    model.eval()
    for sentence in trainers.sentences(10):
        row = torch.tensor([sentence["input_ids"]])
        with torch.no_grad():
            total += float(model(input_ids=row, labels=row).loss) * (row.shape[1] - 1)
        count += row.shape[1] - 1
    assert workload.evaluate(model).loss == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("batched", [False, True], ids=["at the end", "batch by batch"])
def test_the_metric_is_that_of_the_trainers_own_evaluation(
    batched: bool, tmp_path: Path, held: Opened
) -> None:
    seen: list[int] = []

    def compute(prediction: Any, compute_result: bool = True) -> dict[str, float]:
        right = (prediction.predictions.argmax(-1) == prediction.label_ids).tolist()
        seen.extend(right)
        return {"accuracy": sum(seen) / len(seen)} if compute_result else {}

    trainer = trainers.classification(tmp_path, compute, batch_eval_metrics=batched)
    workload = held(trainer)
    model = workload.start(0, 4)
    for _ in range(2):
        seen.clear()
        score = workload.evaluate(model)
    assert len(seen) == 10
    seen.clear()
    theirs = trainer.evaluate()
    assert score.metric == pytest.approx(theirs["eval_accuracy"])
    assert score.loss == pytest.approx(theirs["eval_loss"], rel=1e-5)
    assert workload.metric == ("accuracy", "max")


def test_a_metric_that_nothing_returns_is_named(tmp_path: Path, held: Opened) -> None:
    workload = held(trainers.classification(tmp_path, metric_for_best_model="f1"))
    with pytest.raises(WorkloadError, match="names 'f1', but compute_metrics returned accuracy"):
        workload.evaluate(workload.start(0, 4))
    trainer = trainers.language(tmp_path, metric_for_best_model="f1", greater_is_better=True)
    with pytest.raises(WorkloadError, match="names 'f1', and the Trainer has no compute_metrics"):
        held(trainer)


def test_of_several_validation_sets_the_named_one(tmp_path: Path, held: Opened) -> None:
    trainer = trainers.classification(tmp_path, metric_for_best_model="second_accuracy")
    trainer.eval_dataset = {"first": trainers.labelled(4), "second": trainers.labelled(8)}
    trainer.compute_metrics = lambda prediction: {"second_accuracy": 0.5}
    workload = held(trainer)
    assert len(workload.held) == 2
    assert "Of the 2 validation sets 'second' is used." in workload.notes


def test_a_model_init_gives_every_seed_its_own_weights(tmp_path: Path, held: Opened) -> None:
    def build() -> Any:
        state = torch.get_rng_state()
        net = trainers.gpt()
        torch.set_rng_state(state)
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.1)
        return net

    trainer = transformers.Trainer(
        model_init=build,
        args=trainers.arguments(tmp_path),
        train_dataset=trainers.sentences(),
        data_collator=trainers.collate,
    )
    before = weights(trainer.model)
    workload = held(trainer)
    one, two = weights(workload.start(1, 4)), weights(workload.start(2, 4))
    assert not torch.equal(one, two)
    assert torch.equal(one, weights(workload.start(1, 4)))
    trial(workload, 3)
    assert torch.equal(weights(trainer.model), before)


def test_what_is_not_done_is_told(tmp_path: Path, held: Opened) -> None:
    class Own(transformers.Trainer):  # type: ignore[misc]
        def training_step(self, *given: Any, **options: Any) -> Any:
            return super().training_step(*given, **options)

    class Stopper(transformers.TrainerCallback):  # type: ignore[misc]
        pass

    trainer = trainers.language(tmp_path, Own, bf16_full_eval=True)
    trainer.add_callback(Stopper)
    trainer.compute_metrics = trainers.accuracy
    told = "\n".join(held(trainer).notes)
    assert "Own overrides training_step, which trials do not call" in told
    assert "Callbacks are not called in trials: Stopper." in told
    assert "bf16_full_eval is not applied" in told
    assert "Set metric_for_best_model to compare one of its metrics" in told


def test_what_cannot_be_is_refused_by_name(tmp_path: Path, held: Opened) -> None:
    trainer = trainers.language(tmp_path)
    trainer.args._n_gpu = 2
    with pytest.raises(WorkloadError, match="over 2 GPUs"):
        held(trainer)
    trainer = trainers.language(tmp_path, optim="galore_adamw_layerwise", optim_target_modules=["attn"])
    with pytest.raises(WorkloadError, match="'galore_adamw_layerwise', which steps during the backward pass"):
        held(trainer)
    trainer = trainers.language(tmp_path)
    trainer.is_deepspeed_enabled = True
    with pytest.raises(WorkloadError, match="uses DeepSpeed"):
        held(trainer)
    trainer = trainers.language(tmp_path)
    trainer.train_dataset = None
    with pytest.raises(WorkloadError, match="no train_dataset"):
        held(trainer)
    with pytest.raises(UsageError, match="brings its own train"):
        from_callables(model=trainers.language(tmp_path), train=[])
    with pytest.raises(UsageError, match=r"its model on cpu, and trials would be on cuda"):
        from_callables(model=trainers.language(tmp_path), device="cuda:0")


def test_a_subclass_that_logs_writes_nothing(tmp_path: Path, held: Opened) -> None:
    class Talking(transformers.Trainer):  # type: ignore[misc]
        def compute_loss(self, *given: Any, **options: Any) -> Any:
            self.log({"steps": self.state.global_step})
            steps.append(self.state.global_step)
            return super().compute_loss(*given, **options)

    steps: list[int] = []
    trainer = trainers.language(tmp_path, Talking)
    trial(held(trainer), 3)
    assert trainer.state.log_history == []
    assert {0, 1, 2} <= set(steps)


FILE = """
from tests.workload import trainers

def make_trainer(folder):
    return trainers.language(folder)

def several():
    return make_trainer("out")
"""


def test_a_file_or_a_function_may_give_one(opened: Opened, tmp_path: Path) -> None:
    workload = opened(FILE + f"\ntrainer = make_trainer({str(tmp_path)!r})\n")
    assert workload.kind == "huggingface"
    trial(workload, 2)
    workload.close()
    file = tmp_path / "other.py"
    file.write_text(FILE)
    from autoopt.workload import load

    workload = load(f"{file}:make_trainer", [str(tmp_path)])
    assert workload.settings.steps == 12
    workload.close()


def test_of_two_trainers_one_is_to_be_named(opened: Opened, tmp_path: Path) -> None:
    made = f"make_trainer({str(tmp_path)!r})"
    with pytest.raises(WorkloadError, match="has 2 Trainers: first, second"):
        opened(FILE + f"\nfirst, second = {made}, {made}\n")
