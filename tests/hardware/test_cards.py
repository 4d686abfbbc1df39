from __future__ import annotations

import pytest

from autoopt.errors import UsageError
from autoopt.hardware.cards import capacity


@pytest.mark.parametrize("text", ["rtx4090", "RTX 4090", "NVIDIA GeForce RTX 4090"])
def test_a_card_has_many_spellings(text: str) -> None:
    assert capacity(text) == 24564 << 20


def test_a_size_is_a_size() -> None:
    assert (capacity("24GB"), capacity("80GiB")) == (24 * 10**9, 80 << 30)


def test_an_unknown_card_is_told_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        capacity("h1000")
    assert "h100" in caught.value.hint
    with pytest.raises(UsageError, match="not a size"):
        capacity("24 gallons")
