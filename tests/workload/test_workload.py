from __future__ import annotations

import math

import pytest
import torch

from autoopt.errors import DeviceError, UsageError, WorkloadError
from autoopt.records import Flags
from autoopt.workload.data import digest
from autoopt.workload.seeding import RngState
from tests.workload.files import PLAIN

FOREIGN = """
from dataclasses import dataclass
import torch
from torch import nn
from torch.nn import functional as F

STEPS = 30

class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.frozen = nn.Linear(6, 6)
        self.frozen.requires_grad_(False)
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.2)

    def forward(self, tokens):
        return self.drop(self.norm(self.frozen(self.embed(tokens).mean(1))))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = Body()
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.body.embed.weight

    def forward(self, tokens):
        return self.head(self.body(tokens))

@dataclass
class Batch:
    tokens: torch.Tensor
    extra: dict

class Loader:
    def __init__(self):
        self.generator = torch.Generator()
        self.tokens = torch.randint(0, 11, (48, 5))

    def __len__(self):
        return 6

    def __iter__(self):
        order = torch.randperm(48, generator=self.generator)
        for rows in order.split(8):
            yield Batch(self.tokens[rows], {"target": self.tokens[rows, 0]})

def build_model():
    return Net()

def train_dataloader():
    return Loader()

def val_dataloader():
    return Loader()

def loss(model, batch):
    return F.cross_entropy(model(batch.tokens), batch.extra.pop("target"))
"""


def _train(workload, seed: int, steps: int = 5, lr: float = 0.3) -> list[float]:
    model = workload.start(seed, steps)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    batches = workload.batches(seed)
    losses = []
    for _ in range(steps):
        loss = workload.loss(model, next(batches))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        workload.after_step(model)
        losses.append(loss.item())
    batches.close()
    return losses


def test_a_foreign_file_trains_the_same_from_each_start(opened):
    workload = opened(FOREIGN)
    first = _train(workload, 0)
    model = workload.model
    frozen = model.body.frozen.weight.clone()
    storage = model.head.weight.data_ptr()
    assert _train(workload, 1) != first
    assert _train(workload, 0, lr=0.9)[0] == first[0]
    assert _train(workload, 0) == first
    assert workload.restore == "in_place"
    assert workload.model is model
    assert model.head.weight.data_ptr() == storage == model.body.embed.weight.data_ptr()
    assert torch.equal(model.body.frozen.weight, frozen)
    assert workload.validation == "own"


def test_another_process_would_start_the_same(opened):
    one, two = opened(FOREIGN), opened(FOREIGN)
    _train(one, 0)
    assert _train(one, 7) == _train(two, 7)


def test_start_clears_gradients_and_sets_the_mode(opened):
    workload = opened(FOREIGN)
    _train(workload, 0)
    workload.model.eval()
    model = workload.start(0, 5)
    assert all(p.grad is None for p in model.parameters())
    assert all(m.training for m in model.modules())
    assert int(model.body.norm.num_batches_tracked) == 0


def test_evaluation_leaves_no_trace(opened):
    workload = opened(FOREIGN)
    model = workload.start(0, 5)
    model.body.norm.eval()
    before, buffers = RngState(), digest(list(model.buffers()))
    score = workload.evaluate(model)
    assert torch.equal(torch.get_rng_state(), before.torch)
    assert digest(list(model.buffers())) == buffers
    assert model.training
    assert model.body.drop.training
    assert not model.body.norm.training
    assert workload.evaluate(model) == score
    assert score.batches == 6
    assert workload.evaluate(model, 2).batches == 2
    assert score.metric is None


def test_the_mean_is_over_samples(opened):
    workload = opened(
        PLAIN + "\ndef val_dataloader():\n    x = torch.ones(10, 3)\n"
        "    return DataLoader(TensorDataset(x, torch.arange(10.)[:, None]), batch_size=7)\n"
    )
    model = workload.start(0, 1)
    x, y = torch.ones(10, 3), torch.arange(10.0)[:, None]
    whole = (model(x) - y).square().mean().item()
    assert workload.evaluate(model).loss == pytest.approx(whole, rel=1e-5)


COUNTER = PLAIN.replace(
    "def build_model():\n    return nn.Sequential(",
    """
class Warm(nn.Sequential):
    calls = 0
    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls

def build_model():
    return Warm(""",
)


def test_a_model_with_hidden_state_is_built_anew(opened):
    workload = opened(COUNTER)
    first = _train(workload, 0)
    assert workload.restore == "rebuilt"
    assert any("built anew" in note for note in workload.notes)
    assert _train(workload, 0) == first


def test_a_loss_that_never_repeats_is_said(opened):
    text = PLAIN.replace("return (model", "import os; return int.from_bytes(os.urandom(2), 'big') * (model")
    workload = opened(text)
    workload.start(0, 3)
    assert workload.restore == "in_place"
    assert any("does not repeat" in note for note in workload.notes)


def test_reset_redraws_instead_of_building(opened):
    workload = opened(
        PLAIN
        + """
BUILT = []
real = build_model
def build_model():
    BUILT.append(1)
    return real()
def reset(model, seed):
    model[2].reset_parameters()
"""
    )
    a = workload.start(1, 3)
    weights = [a[0].weight.clone(), a[2].weight.clone()]
    b = workload.start(2, 3)
    assert torch.equal(b[0].weight, weights[0])
    assert not torch.equal(b[2].weight, weights[1])
    assert torch.equal(workload.start(1, 3)[2].weight, weights[1])
    assert len(workload.contract.build_model.__globals__["BUILT"]) == 1


def test_metric_of_evaluate(opened):
    text = (
        PLAIN
        + "\ndef evaluate(model, batches):\n    return {'n': sum(len(x) for x, _ in batches), 'other': 'x'}\n"
    )
    assert opened(text).evaluate(opened(text).model).metric is None
    workload = opened(text + "METRIC = ('n', 'max')\n")
    score = workload.evaluate(workload.model)
    assert (score.metric, workload.settings.metric) == (4.0, ("n", "max"))
    assert math.isfinite(score.loss)
    workload = opened(text + "METRIC = ('accuracy', 'max')\n")
    with pytest.raises(WorkloadError, match=r"METRIC names 'accuracy', but evaluate\(\) returned n, other"):
        workload.evaluate(workload.model)
    with pytest.raises(WorkloadError, match=r"there is no evaluate\(\) that computes it"):
        opened(PLAIN + "METRIC = ('accuracy', 'max')\n")


def test_a_loss_that_takes_gradients_itself_can_be_evaluated(opened):
    text = PLAIN.replace(
        "    x, y = batch\n",
        "    x, y = batch\n    x = x.requires_grad_()\n"
        "    u = torch.autograd.grad(model(x).sum(), x, create_graph=True)[0]\n"
        "    y = y + 0 * u.sum()\n",
    )
    workload = opened(text)
    score = workload.evaluate(workload.start(0, 2))
    assert math.isfinite(score.loss)
    assert all(p.grad is None for p in workload.model.parameters())


def test_without_held_out_data(opened):
    text = PLAIN.replace(
        "return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)",
        "\n    for rows in x.split(8):\n        yield rows, rows.sum(1, keepdim=True)",
    )
    workload = opened(text)
    assert workload.validation == "prequential"
    with pytest.raises(WorkloadError, match="no validation data"):
        workload.evaluate(workload.model)
    assert len(_train(workload, 0, steps=12)) == 12


@pytest.mark.parametrize("text", [PLAIN, PLAIN.replace("STEPS = 40", "GLOBAL_BATCH = 32")])
def test_a_global_batch_is_divided_by_the_loaders_first_batch_without_a_trace(opened, text):
    torch.manual_seed(3)
    flags = Flags(global_batch=32, epochs=4) if text is PLAIN else Flags(epochs=4)
    workload = opened(text, flags=flags)
    drawn = torch.rand(1)
    assert (workload.settings.accumulate, workload.settings.steps) == (4, 5)
    assert workload.report(quick=True).samples_per_batch == 8
    torch.manual_seed(3)
    plain = opened(text, flags=Flags(accumulate=4, epochs=4))
    assert torch.rand(1) == drawn
    assert _train(plain, 1, steps=6) == _train(workload, 1, steps=6)


def test_a_global_batch_that_cannot_be_divided_is_told_when_the_file_is_loaded(opened):
    with pytest.raises(UsageError, match="global batch of 20 samples") as caught:
        opened(PLAIN, flags=Flags(global_batch=20))
    assert "16 and 24" in caught.value.hint
    with pytest.raises(WorkloadError, match=r"model.py: A global batch of 20"):
        opened(PLAIN.replace("STEPS = 40", "GLOBAL_BATCH = 20"))


def test_epochs_count_what_is_left_after_the_hold_out(opened):
    workload = opened(PLAIN, flags=Flags(epochs=4))
    assert workload.validation == "held_out"
    assert workload.settings.steps == 4 * 5  # 36 of 40 samples, 8 a batch


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PLAIN.replace("def build_model", "def make_model"), r"model.py has no build_model\(\)"),
        (PLAIN.replace("def train_dataloader", "def data"), r"model.py has no train_dataloader\(\)"),
        (PLAIN + "\nloss = 3\n", "loss is a int, not a function"),
        (PLAIN + "\ndef build_model():\n    return 3\n", "returned a int, not a torch.nn.Module"),
        (PLAIN + "\ndef build_model():\n    return nn.ReLU()\n", "the model has no parameters"),
        (
            PLAIN + "\ndef build_model():\n    return nn.Linear(3, 1).requires_grad_(False)\n",
            "all 2 parameters are frozen",
        ),
        (PLAIN + "\ndef build_model():\n    return nn.LazyLinear(1)\n", "has no shape yet"),
        (
            PLAIN + "\nimport random\ndef build_model():\n    return nn.Linear(3, random.randint(1, 99))\n",
            "differs",
        ),
    ],
)
def test_what_the_contract_refuses(opened, text, message):
    def start() -> None:
        workload = opened(text)
        for seed in range(4):
            workload.fresh(seed, 1)

    with pytest.raises(WorkloadError, match=message) as caught:
        start()
    assert caught.value.hint


def test_a_device_that_is_not_there(opened):
    with pytest.raises(DeviceError, match="no device 'nonsense'"):
        opened(PLAIN, device="nonsense")


def test_a_dispatched_model_is_never_moved(opened):
    workload = opened(
        PLAIN
        + """
class Placed(nn.Linear):
    hf_device_map = {"": "cpu"}
    def to(self, *args, **kwargs):
        raise RuntimeError("moved")
def build_model():
    return Placed(3, 1)
"""
    )
    weight = workload.start(0, 1).weight.clone()
    assert torch.equal(workload.start(1, 1).weight, weight)
    assert any("same weights" in note for note in workload.notes)


def test_thawing_in_a_training_is_undone(opened):
    workload = opened(FOREIGN)
    frozen = workload.start(0, 2).body.frozen
    frozen.requires_grad_(True)
    workload.start(0, 2)
    assert not any(p.requires_grad for p in frozen.parameters())


def test_the_real_run_takes_no_trial_steps(opened):
    workload = opened(FOREIGN)
    workload.start(0, 2, is_trial=False)
    assert workload.restore is None
    assert not workload.code.context.is_trial
