from __future__ import annotations

import pytest

from autoopt.errors import UserCodeError, WorkloadError
from tests.workload.files import PLAIN

HF = """
from types import SimpleNamespace
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification
from transformers.tokenization_utils_base import BatchEncoding

def build_model():
    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=8, max_position_embeddings=8)
    return BertForSequenceClassification(config)

def train_dataloader():
    return [
        BatchEncoding({"input_ids": torch.randint(0, 20, (4, 6)), "labels": torch.randint(0, 2, (4,))})
        for _ in range(6)
    ]
"""


def test_a_transformers_model_brings_its_loss(opened):
    pytest.importorskip("transformers")
    workload = opened(HF)
    model = workload.start(0, 4)
    assert workload.kind == "huggingface"
    batch = next(workload.batches(0))
    loss = workload.loss(model, batch)
    loss.backward()
    assert set(batch) == {"input_ids", "labels"}
    assert workload.evaluate(model).batches == 1
    workload = opened(HF.replace('"labels"', '"token_type_ids"').replace("(0, 2, (4,))", "(0, 2, (4, 6))"))
    with pytest.raises(
        WorkloadError, match=r"no loss\(\) and the model gives none: its batch has no 'labels'"
    ):
        workload.start(0, 4)


def test_a_plain_model_without_loss_is_told_apart(opened):
    workload = opened(PLAIN.replace("def loss", "def lossy"))
    with pytest.raises(UserCodeError) as caught:
        workload.start(0, 4)
    assert "has no loss()" in caught.value.hint
