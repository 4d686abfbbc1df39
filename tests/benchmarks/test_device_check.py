"""The check of a real GPU: what it says without one; its parts are tested with fakes where they live."""

from __future__ import annotations

import pytest
import torch

from benchmarks.memory import device_check


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["device_check"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_check.main() == 2
    assert "no GPU" in capsys.readouterr().out
