"""Trainers of Hugging Face around models of random weights that are small enough for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

VOCABULARY, LONGEST = 16, 8


def gpt() -> Any:
    """A language model without dropout, so that two runs of it agree to the bit."""
    config = transformers.GPT2Config(
        n_layer=1,
        n_head=2,
        n_embd=8,
        vocab_size=VOCABULARY,
        n_positions=LONGEST,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config)
    model.loss_type = "ForCausalLM"  # as others have: a Trainer then counts the right tokens
    return model


def classifier(labels: int = 2) -> Any:
    """A text classifier, with dropout."""
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=LONGEST,
        num_labels=labels,
    )
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(config)


def sentences(count: int = 40) -> list[dict[str, Any]]:
    """Sequences of 3 to 8 tokens that count upwards."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(3, LONGEST + 1, (count,), generator=generator).tolist()
    starts = torch.randint(1, VOCABULARY, (count,), generator=generator).tolist()
    rows = [[1 + (s + i) % (VOCABULARY - 1) for i in range(n)] for s, n in zip(starts, lengths, strict=True)]
    return [{"input_ids": row, "labels": row} for row in rows]


def labelled(count: int = 40) -> list[dict[str, Any]]:
    """Sentences of which the label says whether they begin low."""
    return [
        {"input_ids": s["input_ids"], "labels": int(s["input_ids"][0] < VOCABULARY // 2)}
        for s in sentences(count)
    ]


def pad(rows: list[list[int]], value: int) -> Tensor:
    """Rows of one length."""
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


def collate(items: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Padded to the longest of the batch; padding has no label."""
    rows = [item["input_ids"] for item in items]
    labels = [item["labels"] for item in items]
    return {
        "input_ids": pad(rows, 0),
        "attention_mask": pad([[1] * len(row) for row in rows], 0),
        "labels": pad(labels, -100) if isinstance(labels[0], list) else torch.tensor(labels),
    }


def arguments(folder: Path, **options: Any) -> Any:
    """Silent ones, on the CPU, of twelve steps with four samples each."""
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": True,
        "max_steps": 12,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "learning_rate": 1e-2,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return transformers.TrainingArguments(**settings | options)


def language(folder: Path, kind: Any = None, model: Any = None, **options: Any) -> Any:
    """A Trainer of a language model; `options` are its arguments'."""
    return (kind or transformers.Trainer)(
        model=model or gpt(),
        args=arguments(folder, **options),
        train_dataset=sentences(),
        eval_dataset=sentences(10),
        data_collator=collate,
    )


def accuracy(prediction: Any) -> dict[str, float]:
    """Share of samples whose largest logit is the label's."""
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def classification(folder: Path, metrics: Any = accuracy, **options: Any) -> Any:
    """A Trainer of a classifier, compared by its accuracy."""
    wanted = {"metric_for_best_model": "accuracy", "greater_is_better": True}
    return transformers.Trainer(
        model=classifier(),
        args=arguments(folder, **wanted | options),
        train_dataset=labelled(),
        eval_dataset=labelled(10),
        data_collator=collate,
        compute_metrics=metrics,
    )
