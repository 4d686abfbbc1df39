"""GPUs by name, for questions about a device that is not here."""

from __future__ import annotations

from difflib import get_close_matches

from autoopt.errors import UsageError
from autoopt.units import parse_bytes

MIB = 1 << 20
CONTEXT = 750 * MIB
"""What CUDA's context, kernels and libraries take beside the allocator: 742 MiB were measured on an H100."""

# MiB as the driver reports them (nvidia-smi), a little less than what the name promises.
_CARDS = {
    "t4": 15360,
    "l4": 23034,
    "l40s": 46068,
    "a10": 23028,
    "a10g": 23028,
    "a40": 46068,
    "a6000": 49140,
    "v100": 16384,
    "v100-32gb": 32768,
    "p100": 16384,
    "a100": 40960,
    "a100-40gb": 40960,
    "a100-80gb": 81920,
    "h100": 81559,
    "h200": 143771,
    "b200": 183359,
    "rtx2080ti": 11264,
    "rtx3060": 12288,
    "rtx3090": 24576,
    "rtx4070": 12282,
    "rtx4080": 16376,
    "rtx4090": 24564,
    "rtx5080": 16303,
    "rtx5090": 32607,
}


def capacity(text: str) -> int:
    """Bytes of a GPU given by name ("h100", "RTX 4090") or size ("24GB", "80GiB").

    Raises:
        UsageError: neither.

    >>> capacity("H100") // 2**20, capacity("24GB")
    (81559, 24000000000)
    """
    name = "".join(text.lower().split()).removeprefix("nvidia").removeprefix("geforce").strip("-_")
    if name in _CARDS:
        return _CARDS[name] * MIB
    if text.strip()[:1].isdigit():
        return parse_bytes(text)
    near = get_close_matches(name, _CARDS, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}? " if near else f"Known: {', '.join(_CARDS)}. "
    raise UsageError(f"There is no GPU {text!r} in the table.", f"{hint}A size works too: --gpu 24GB.")
