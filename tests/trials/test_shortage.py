from __future__ import annotations

import pytest

from autoopt.records import Shortage
from autoopt.trials.shortage import sentence, shortage_of, way_out

GIB = 2**30
CUDA = (
    "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB of which "
    "512.00 MiB is free. Process 7 has 78.00 GiB memory in use. Of the allocated memory 70.00 GiB is allocated by PyTorch"
)
CPU = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 2147483648 bytes."


@pytest.mark.parametrize(
    ("text", "asked", "free", "total"),
    [
        (CUDA, int(2.5 * GIB), GIB // 2, int(79.1 * GIB)),
        (CPU, 2 * GIB, 7, 9),
        ("MemoryError", None, 7, 9),
        ("HIP out of memory. Tried to allocate 20.00 MiB.", 20 * 2**20, 7, 9),
    ],
)
def test_what_the_allocators_write_is_read(
    text: str, asked: int | None, free: int | None, total: int
) -> None:
    found = shortage_of(text, "cuda:0", 7, 9)
    assert (found.asked, found.free, found.total) == (asked, free, total)


@pytest.mark.parametrize(
    ("more", "words", "way"),
    [
        ({}, "out of memory on cpu", "Use smaller batches"),
        ({"asked": 3 * 2**20}, "out of memory on cpu: asked for 3.0 MiB", "Use smaller batches"),
        ({"free": 100, "total": 2048}, "100 bytes of 2.0 KiB free", "Use smaller batches"),
        ({"batch": 64}, "no step fits, not even with a batch of one sample", "a smaller model"),
        (
            {"batch": 64, "fits": 16, "accumulate": 8},
            "a step fits with batches of 16 instead of 64 and 8 of them accumulated",
            "--accumulate 8",
        ),
        ({"batch": 64, "fits": 64, "accumulate": 1}, "fitted afterwards", "keeps from step to step"),
    ],
)
def test_the_answer_in_words(more: dict[str, int], words: str, way: str) -> None:
    shortage = Shortage(device="cpu", **more)
    assert words in sentence(shortage)
    assert way in way_out(shortage)
