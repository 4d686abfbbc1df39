"""The callback in real fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from autoopt.errors import UsageError
from autoopt.records import Recommendation

lightning = pytest.importorskip("lightning")

from autoopt.integrations.lightning import AutoOptimizer  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*number of training batches"),
]
OPTIONS: dict[str, Any] = {"budget": "60s", "optimizers": ["sgd"], "progress": False}


class Net(lightning.LightningModule):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 1)
        self.rates: list[float] = []
        self.asked = 0

    def training_step(self, batch: Any, _: int) -> Tensor:
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        return (self.net(batch[0]) - batch[1]).square().mean()

    def validation_step(self, batch: Any, _: int) -> None:
        self.log("val_loss", (self.net(batch[0]) - batch[1]).square().mean())

    def configure_optimizers(self) -> Any:
        self.asked += 1
        return torch.optim.SGD(self.parameters(), lr=1e-4, momentum=0.9)


class Data(lightning.LightningDataModule):  # type: ignore[misc]
    def setup(self, stage: str) -> None:
        assert not hasattr(self, "x"), "set up once"
        self.x = torch.randn(48, 3, generator=torch.Generator().manual_seed(0))

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(self.x[:40], self.x[:40].sum(1, keepdim=True)), 8)

    def val_dataloader(self) -> Any:
        return DataLoader(TensorDataset(self.x[40:], self.x[40:].sum(1, keepdim=True)), 8)


def trainer_of(folder: Path, callback: Any, **options: Any) -> Any:
    settings = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
        "max_epochs": 4,
    }
    return lightning.Trainer(callbacks=[callback], **settings | options)


def test_a_fit_goes_on_with_the_choice_and_a_resumed_one_chooses_no_more(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, callback = Net(), AutoOptimizer(**OPTIONS)
    start = net.net.weight.detach().clone()
    trainer = trainer_of(tmp_path, callback)
    trainer.fit(net, Data())
    rec = callback.recommendation
    assert rec is not None
    assert rec == Recommendation.load(tmp_path / "autoopt")
    assert rec.recommendation.steps == 20
    assert rec.against_yours.yours is not None, "the module's own optimizer is the baseline"
    assert len(net.rates) == 20, "this module took the steps of its own fit only"
    assert max(net.rates) == pytest.approx(rec.recommendation.hyper["lr"], rel=0.3)
    assert net.rates[-1] < 0.2 * max(net.rates), "the recommended schedule decays"
    assert not torch.equal(net.net.weight, start)
    assert "configure_optimizers" not in vars(net)

    trainer.save_checkpoint(tmp_path / "end.ckpt")
    again, other = Net(), AutoOptimizer(**OPTIONS | {"budget": "0.001s"})
    trainer = trainer_of(tmp_path / "again", other, max_epochs=6)
    trainer.fit(again, Data(), ckpt_path=tmp_path / "end.ckpt", weights_only=False)
    assert other.recommendation == rec
    assert len(again.rates) == 10
    assert not (tmp_path / "again" / "autoopt").exists()


def test_a_fit_with_loaders(tmp_path: Path) -> None:
    data, callback = Data(), AutoOptimizer(**OPTIONS)
    data.setup("fit")
    trainer = trainer_of(tmp_path, callback, max_epochs=2, gradient_clip_val=0.5)
    trainer.fit(Net(), data.train_dataloader(), data.val_dataloader())
    assert callback.recommendation is not None
    assert callback.recommendation.workload.validation == "own"
    assert callback.recommendation.workload.settings.clip == 0.5
    assert trainer.gradient_clip_val == 0.5


def test_a_checkpoint_without_a_recommendation_is_refused(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, lightning.Callback(), max_epochs=1)
    trainer.fit(Net(), Data())
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    net = Net()
    with pytest.raises(UsageError, match="holds no recommendation"):
        trainer_of(tmp_path, AutoOptimizer(**OPTIONS)).fit(
            net, Data(), ckpt_path=tmp_path / "plain.ckpt", weights_only=False
        )
    assert "configure_optimizers" not in vars(net)


def test_a_fit_without_an_end_is_refused(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, AutoOptimizer(**OPTIONS), max_epochs=-1)
    with pytest.raises(UsageError, match="no end"):
        trainer.fit(Net(), Data())
