#!/usr/bin/env python
"""Trains a causal language model on a text file, from scratch, in the manner of transformers' example."""

import logging
import os
import sys
from dataclasses import dataclass, field
from itertools import chain

from torch.utils.data import Dataset
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

logger = logging.getLogger(__name__)


@dataclass
class ModelArguments:
    """Arguments pertaining to which model/config we are going to train from scratch."""

    n_embd: int = field(default=32, metadata={"help": "Width"})
    n_layer: int = field(default=2, metadata={"help": "Depth"})
    n_head: int = field(default=2, metadata={"help": "Heads"})


@dataclass
class DataTrainingArguments:
    train_file: str = field(default=None, metadata={"help": "The input training data file (a text file)."})
    block_size: int = field(default=32, metadata={"help": "Input sequence length after tokenization."})
    validation_split_percentage: int = field(default=10, metadata={"help": "Share used as validation set"})


class ListDataset(Dataset):
    def __init__(self, columns):
        self.columns = columns

    def __len__(self):
        return len(self.columns["input_ids"])

    def __getitem__(self, index):
        return {name: values[index] for name, values in self.columns.items()}


def tokenize(text):
    return {"input_ids": [list(line.encode()) for line in text.splitlines(keepends=True)]}


def group_texts(examples, block_size):
    # Concatenate all texts, drop the small remainder, split by chunks of block_size.
    concatenated = {k: list(chain(*examples[k])) for k in examples}
    total_length = (len(concatenated["input_ids"]) // block_size) * block_size
    result = {
        k: [t[i : i + block_size] for i in range(0, total_length, block_size)]
        for k, t in concatenated.items()
    }
    result["labels"] = result["input_ids"].copy()
    return result


def parse(argv=None):
    parser = HfArgumentParser((ModelArguments, DataTrainingArguments, TrainingArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        # If we pass only one argument to the script and it's the path to a json file, let's parse it.
        return parser.parse_json_file(json_file=os.path.abspath(sys.argv[1]))
    return parser.parse_args_into_dataclasses(argv)


def load_datasets(data_args):
    with open(data_args.train_file) as f:
        lm_data = group_texts(tokenize(f.read()), data_args.block_size)
    cut = len(lm_data["input_ids"]) * data_args.validation_split_percentage // 100
    train, valid = ({k: v[s] for k, v in lm_data.items()} for s in (slice(cut, None), slice(cut)))
    return ListDataset(train), ListDataset(valid)


def make_trainer(model_args, data_args, training_args):
    set_seed(training_args.seed)
    train_dataset, eval_dataset = load_datasets(data_args)
    config = GPT2Config(
        vocab_size=256,
        n_positions=data_args.block_size,
        n_embd=model_args.n_embd,
        n_layer=model_args.n_layer,
        n_head=model_args.n_head,
    )
    return Trainer(
        model=GPT2LMHeadModel(config),
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        data_collator=default_data_collator,
    )


def main():
    model_args, data_args, training_args = parse()
    logging.basicConfig(format="%(asctime)s - %(levelname)s - %(message)s", level=logging.INFO)
    trainer = make_trainer(model_args, data_args, training_args)
    train_result = trainer.train()
    trainer.log_metrics("train", train_result.metrics)
    metrics = trainer.evaluate()
    trainer.log_metrics("eval", metrics)


if __name__ == "__main__":
    main()
