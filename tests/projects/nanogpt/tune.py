"""What autoopt needs of nanoGPT: `autoopt profile tune.py -- config/train_stdlib_char.py`."""

import os
import pickle
import sys

import numpy as np
import torch
from model import GPT, GPTConfig

exec(open(sys.argv[1]).read())  # the names of the config
data_dir = "data/stdlib_char"
STEPS, CLIP = max_iters, 1.0


def get_batch(split):
    data = np.memmap(os.path.join(data_dir, f"{split}.bin"), dtype=np.uint16, mode="r")
    ix = torch.randint(len(data) - block_size, (batch_size,))
    x = torch.stack([torch.from_numpy((data[i : i + block_size]).astype(np.int64)) for i in ix])
    y = torch.stack([torch.from_numpy((data[i + 1 : i + 1 + block_size]).astype(np.int64)) for i in ix])
    return x, y


def build_model():
    meta = pickle.load(open(os.path.join(data_dir, "meta.pkl"), "rb"))
    args = dict(n_layer=n_layer, n_head=n_head, n_embd=n_embd, block_size=block_size, bias=False)
    return GPT(GPTConfig(**args, vocab_size=meta["vocab_size"], dropout=dropout))


def train_dataloader():
    return get_batch("train")


def val_dataloader():
    return [get_batch("val") for _ in range(eval_iters)]


def loss(model, batch):
    return model(*batch)[1]


def configure_optimizers(model):
    return model.configure_optimizers(1e-1, learning_rate, (0.9, beta2), "cpu")
