"""What counts as tokens, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from autoopt.workload.tokens import count, looking


class Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(50, 4), nn.Embedding(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        summed: torch.Tensor = self.token(x) + self.position(torch.arange(x.shape[1]))
        return summed


def whole(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, dtype=torch.int64)


def told(model: nn.Module, batch: Any, given: torch.Tensor) -> tuple[int | None, str]:
    with looking(model) as looked:
        model(given)
    return count(batch, looked)


def test_a_text_is_counted_once_and_not_its_labels_or_positions() -> None:
    x, y = whole(6, 16), whole(6, 16)
    assert told(Text(), (x, y), x) == (96, "int64[6, 16] into token")


def test_a_batch_whose_last_token_is_only_a_target() -> None:
    x = whole(6, 17)
    assert told(Text(), {"text": x}, x[:, :-1])[0] == 96


@pytest.mark.parametrize(
    "batch",
    [
        (torch.zeros(6, 16), whole(6)),  # numbers with labels
        (whole(6, 5), torch.zeros(6)),  # columns of a table
        (whole(3, 32), torch.zeros(3)),  # something else than what went in
    ],
)
def test_other_batches_are_not_made_of_tokens(batch: Any) -> None:
    number = batch[0].shape[0]
    given = whole(number, 5) if batch[0].shape[1] == 5 else whole(number, 16)
    assert told(Text(), batch, given) == (None, "")


def test_nothing_stays_in_the_model_and_a_compiled_one_is_left_alone() -> None:
    model = Text()
    with looking(model):
        assert model.token._forward_pre_hooks
    assert not model.token._forward_pre_hooks
    with looking(torch.compile(model, backend="eager")) as looked:
        model(whole(6, 16))
    assert looked == []
