from pathlib import Path

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset, random_split


class DigitsDataModule(LightningDataModule):
    def __init__(self, data_dir: str = "data/", batch_size: int = 64, num_workers: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.data_train = self.data_val = None
        self.batch_size_per_device = batch_size

    def prepare_data(self) -> None:
        assert (Path(self.hparams.data_dir) / "digits.csv.gz").exists()

    def setup(self, stage: str | None = None) -> None:
        if self.trainer is not None:
            self.batch_size_per_device = self.hparams.batch_size // self.trainer.world_size
        if not self.data_train and not self.data_val:
            file = Path(self.hparams.data_dir) / "digits.csv.gz"
            table = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.float32))
            data = TensorDataset(table[:, :64] / 16, table[:, 64].long())
            generator = torch.Generator().manual_seed(42)
            self.data_train, self.data_val = random_split(data, [1500, 297], generator=generator)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.data_train, self.batch_size_per_device, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.data_val, 256, num_workers=self.hparams.num_workers, shuffle=False)
