from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from autoopt.errors import WorkloadError
from autoopt.records import Flags, WorkloadReport
from autoopt.workload import probes
from autoopt.workload.data import digest
from tests.workload.files import PLAIN, write


def test_the_report_tells_what_is_there_and_changes_nothing(opened, tmp_path):
    write(tmp_path, "HIDDEN = 4", "sizes_of_report.py")
    workload = opened(PLAIN.replace("STEPS = 40", "from sizes_of_report import HIDDEN\nSTEPS = 40"))
    before = digest(dict(workload.start(0, 5).state_dict()))
    report = workload.report(quick=True)
    assert digest(dict(workload.start(0, 5).state_dict())) == before
    assert (report.parameters, report.trainable, report.dtypes) == (21, 21, {"float32": 21})
    assert report.layers == {"Linear": 2, "Tanh": 1}
    assert (report.batch, report.samples_per_batch) == ("list(float32[8, 3], float32[8, 1])", 8)
    assert (report.batches_per_epoch, report.validation, report.validation_batches) == (5, "held_out", 1)
    assert report.reproducible_data
    assert report.step_seconds > 0
    assert report.initial_loss == pytest.approx(workload.evaluate(workload.start(0, 5)).loss)
    assert report.first_loss == workload.loss(workload.start(0, 5), next(workload.batches(0))).item()
    content = (tmp_path / "model.py").read_bytes()
    assert report.modules.keys() == {"model.py", "sizes_of_report.py"}
    assert report.modules["model.py"] == hashlib.sha256(content).hexdigest()
    assert report.versions["torch"] == torch.__version__
    assert {"import", "build", "data", "first_step"} <= report.seconds.keys()
    assert WorkloadReport.model_validate_json(report.model_dump_json()) == report
    assert [w for w in report.warnings if "held out" not in w] == []


def _warnings(workload) -> str:
    return "\n".join(workload.report(quick=True).warnings)


def test_an_irreproducible_loader(opened):
    text = PLAIN.replace(
        "    return DataLoader",
        "    import os\n    class Noise(torch.utils.data.Dataset):\n"
        "        def __len__(self):\n            return 16\n        def __getitem__(self, index):\n"
        "            return torch.full((3,), os.urandom(1)[0] / 256), torch.ones(1)\n"
        "    return DataLoader(Noise(), 4)\n    return DataLoader",
    )
    report = opened(text).report(quick=True)
    assert not report.reproducible_data
    assert any("not reproducible" in w for w in report.warnings)


def test_half_precision_weights(opened):
    workload = opened(
        PLAIN.replace("nn.Linear(4, 1))", "nn.Linear(4, 1)).bfloat16()").replace(
            "x, y = batch", "x, y = (b.bfloat16() for b in batch)"
        )
    )
    assert "bfloat16 without float32 masters" in _warnings(workload)


def test_autocast_inside_the_loss(opened):
    text = PLAIN.replace(
        "    return (model(x) - y)",
        "    with torch.autocast('cpu', torch.bfloat16):\n        x = model(x)\n    return (x - y)",
    )
    assert "the precision is set twice" in _warnings(opened(text, flags=Flags(precision="bf16")))
    assert "PRECISION is fp32" in _warnings(opened(text))
    assert "autocast" not in _warnings(opened(PLAIN, flags=Flags(precision="bf16")))


def test_tensors_outside_the_model(opened):
    text = PLAIN.replace("def loss", "TEMPERATURE = torch.ones(2, requires_grad=True)\n\ndef loss").replace(
        "(model(x) - y)", "(TEMPERATURE[0] * model(x) - y)"
    )
    assert "1 tensors outside model.parameters() ([2])" in _warnings(opened(text))


def test_an_evaluate_that_is_not_compared(opened):
    assert "no METRIC" in _warnings(opened(PLAIN + "\ndef evaluate(model, batches):\n    return 1.0\n"))


def test_several_optimizers_are_refused(opened):
    text = (
        PLAIN + "\ndef configure_optimizers(model):\n    p = model.parameters\n"
        "    return [torch.optim.SGD(p(), 1), torch.optim.Adam(p())]\n"
    )
    with pytest.raises(WorkloadError, match=r"2 optimizers \(SGD, Adam\)"):
        opened(text).report(quick=True)


def test_a_first_loss_that_is_not_finite(opened):
    with pytest.raises(WorkloadError, match="first batch is nan before any training"):
        opened(PLAIN.replace(".mean()", ".mean() * float('nan')")).report(quick=True)


def test_optimizers_that_cannot_be_used_say_why(opened):
    once = (
        PLAIN.replace(
            "def loss",
            """
class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad * 2

def loss""",
        )
        .replace("model(x) - y", "Once.apply(model(x)) - y")
        .replace("nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))", "nn.Linear(3, 1)")
    )
    found = opened(once).report(quick=True).unavailable
    assert "adahessian" not in found, "it takes differences of gradients there"
    halves = once.replace("nn.Linear(3, 1)", "nn.Linear(3, 1).bfloat16()")
    halves = halves.replace("model(x)", "model(x.bfloat16())")
    assert "cannot be differentiated twice" in opened(halves).report(quick=True).unavailable["adahessian"]
    assert found["muon"] == "the model has no hidden matrix"
    assert "adamw" not in found
    found = opened(PLAIN).report(quick=True).unavailable
    assert not {"adahessian", "muon"} & found.keys()


def test_sparse_gradients(opened):
    workload = opened("""
import torch
from torch import nn
def build_model():
    return nn.Embedding(9, 2, sparse=True)
def train_dataloader():
    return [torch.randint(0, 9, (4,)) for _ in range(8)]
def loss(model, batch):
    return model(batch).square().mean()
def configure_optimizers(model):
    return torch.optim.SparseAdam(model.parameters())
""")
    report = workload.report(quick=True)
    assert "sparse" in report.unavailable["adamw"]
    assert "sgd" not in report.unavailable
    assert report.baseline.optimizer == "SparseAdam"


def test_validation_data_with_nan_is_told_before_trials(opened):
    text = (
        PLAIN
        + "\ndef val_dataloader():\n    return [(torch.full((2, 3), float('nan')), torch.zeros(2, 1))]\n"
    )
    with pytest.raises(WorkloadError, match="validation loss is nan before any training"):
        opened(text).report(quick=True)


def test_complex_weights(opened):
    workload = opened("""
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4, dtype=torch.cfloat)
        self.outer = nn.Linear(4, 1, dtype=torch.cfloat)
    def forward(self, x):
        return self.outer(self.inner(x))
def build_model():
    return Net()
def train_dataloader():
    return [torch.randn(8, 4, dtype=torch.cfloat) for _ in range(8)]
def loss(model, batch):
    return (model(batch) - batch[:, :1]).abs().square().mean()
""")
    found = workload.report(quick=True).unavailable
    assert "does not take the model's complex parameters" in found["adafactor"]
    assert "does not take the model's complex parameters" in found["muon"]
    assert not {"adamw", "sgd", "rmsprop"} & found.keys()


def test_prequential_has_no_validation(opened):
    text = PLAIN.replace("return DataLoader(", "yield from DataLoader(")
    report = opened(text).report(quick=True)
    assert (report.validation, report.validation_batches, report.batches_per_epoch) == (
        "prequential",
        None,
        None,
    )
    assert report.initial_loss == report.first_loss


def test_outside_walks_the_whole_graph():
    model, other = nn.Linear(2, 1), torch.ones(1, 2, requires_grad=True)
    assert probes.outside(model(other * 2).sum(), model)[0] is other
    assert probes.outside(model(torch.ones(1, 2)).sum(), model) == []


def test_files_outside_the_project_are_not_digested(opened):
    workload = opened(PLAIN)
    assert all(not Path(name).is_absolute() for name in workload.report(quick=True).modules)


SPIKES = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

def build_model():
    return nn.Linear(2, 1)

def train_dataloader():
    y = torch.ones(160, 1)
    y[::40] = 1000.0
    return DataLoader(TensorDataset(torch.ones(160, 2), y), 8)

def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()
"""


def test_gradient_norms_of_the_first_batches_show_the_one_with_a_spike(opened):
    norms = opened(SPIKES).report().gradient_norms
    assert len(norms) == 13
    assert max(norms) > 50 * sorted(norms)[6]


def test_who_clips_already_is_not_asked(opened):
    assert opened(SPIKES + "\nCLIP = 1.0\n").report(quick=True).gradient_norms == []
