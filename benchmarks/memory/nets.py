"""Nets of the shapes that people train, in the contract: `benchmarks.memory.nets:make -- NAME BATCH LENGTH`.

Weights are drawn, data is noise: memory does not depend on either. LENGTH is a sequence's, or an image's side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

VOCABULARY = 50257


class Bottleneck(nn.Module):
    """ResNet-50's block (He 2015, arXiv 1512.03385)."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            *_conv(inside, width, 1), nn.ReLU(inplace=True), *_conv(width, width, 3, stride), nn.ReLU(inplace=True),
            *_conv(width, out, 1),
        )  # fmt: skip
        self.short = (
            nn.Sequential(*_conv(inside, out, 1, stride)) if stride > 1 or inside != out else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.short(x), inplace=True)


def _conv(inside: int, out: int, size: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inside, out, size, stride, size // 2, bias=False), nn.BatchNorm2d(out)]


def resnet50() -> nn.Module:
    """25.6 M parameters."""
    layers: list[nn.Module] = [*_conv(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(count):
            layers.append(Bottleneck(inside, width, stride if i == 0 else 1))
            inside = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 1000))


class Attention(nn.Module):
    def __init__(
        self, width: int, heads: int, *, causal: bool, dropout: float = 0.0, bias: bool = True
    ) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.heads, self.causal, self.dropout = heads, causal, dropout

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in self.qkv(x).split(d, dim=2))
        p = self.dropout if self.training else 0.0
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal, dropout_p=p)
        return functional.dropout(self.out(y.transpose(1, 2).reshape(b, t, d)), self.dropout, self.training)


class GptBlock(nn.Module):
    """Pre-norm transformer block with GELU, GPT-2's and ViT's."""

    def __init__(self, width: int, heads: int, *, causal: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal=causal, dropout=dropout)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Gpt(nn.Module):
    """GPT-2's shape with tied embeddings: 124 M parameters at 12 x 768, 1.56 G at 48 x 1600."""

    def __init__(self, layers: int = 12, width: int = 768, heads: int = 12, length: int = 1024) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Embedding(length, width)
        self.drop = nn.Dropout(0.1)
        self.blocks = nn.Sequential(
            *(GptBlock(width, heads, causal=True, dropout=0.1) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        place = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.norm(self.blocks(self.drop(self.tokens(tokens) + self.positions(place)))))


class Vit(nn.Module):
    """ViT-B/16 by default: 86 M parameters."""

    def __init__(
        self, layers: int = 12, width: int = 768, heads: int = 12, side: int = 224, patch: int = 16
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, (side // patch) ** 2 + 1, width))
        # As timm does: a rate a layer, read from a tensor.
        self.rates = [float(rate) for rate in torch.linspace(0, 0.1, layers)]
        self.blocks = nn.Sequential(*(GptBlock(width, heads, causal=False) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class LlamaBlock(nn.Module):
    """Llama's block: RMSNorm, gated SiLU (Touvron 2023, arXiv 2302.13971)."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        y = self.norm1(x)
        q, k, v = (part(y).view(b, t, self.heads, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        y = functional.scaled_dot_product_attention(_rotated(q), _rotated(k), v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(b, t, d))
        y = self.norm2(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


def _rotated(x: Tensor) -> Tensor:
    """Rotary positions (Su 2021, arXiv 2104.09864)."""
    t, d = x.shape[-2:]
    angle = torch.outer(
        torch.arange(t, device=x.device), 10000 ** (-torch.arange(0, d, 2, device=x.device) / d)
    )
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Llama(nn.Module):
    """Llama-2-7B's shape by default; `checkpointed` recomputes each block in the backward pass."""

    def __init__(
        self, layers: int = 32, width: int = 4096, heads: int = 32, inner: int = 11008, words: int = 32000,
        *, checkpointed: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tokens = nn.Embedding(words, width)
        self.blocks = nn.ModuleList(LlamaBlock(width, heads, inner) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, words, bias=False)
        self.checkpointed = checkpointed

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x)
        return self.head(self.norm(x))


class LowRank(nn.Module):
    """A frozen linear layer and a trained product of rank r beside it (Hu 2021, arXiv 2106.09685)."""

    def __init__(self, base: nn.Linear, rank: int = 8) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def lora() -> nn.Module:
    """A frozen Llama shape of 0.5 G parameters in bfloat16, adapters on attention, activations checkpointed."""
    model = Llama(8, 2048, 16, 5504, checkpointed=True).to(torch.bfloat16)
    model.requires_grad_(False)
    for block in model.blocks:
        for name in ("q", "k", "v", "o"):
            setattr(block, name, LowRank(getattr(block, name)).to(torch.bfloat16))
    return model


class Padded(nn.Module):
    """torch's own encoder over padded sentences of varying length."""

    def __init__(self, width: int = 512, layers: int = 6, words: int = 8000) -> None:
        super().__init__()
        self.tokens = nn.Embedding(words, width, padding_idx=0)
        layer = nn.TransformerEncoderLayer(width, 8, 4 * width, dropout=0.1, batch_first=True)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, words)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.body(self.tokens(tokens), src_key_padding_mask=tokens == 0))


NETS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "resnet50": (resnet50, "images"),
    "vit_s": (lambda: Vit(12, 384, 6), "images"),
    "vit_b": (Vit, "images"),
    "vit_h": (lambda: Vit(32, 1280, 16, patch=14), "images"),
    "gpt2": (Gpt, "tokens"),
    "gpt2_xl": (lambda: Gpt(48, 1600, 25), "tokens"),
    "llama_small": (lambda: Llama(12, 1024, 16, 2816), "tokens"),
    "llama_7b": (Llama, "tokens"),
    "lora": (lora, "tokens"),
    "padded": (Padded, "sentences"),
}


def make(name: str, batch: str = "8", length: str = "224") -> SimpleNamespace:
    """The contract for one of `NETS`."""
    build, kind = NETS[name]
    size, extent = int(batch), int(length)

    def batches() -> Iterator[Any]:
        draw = torch.Generator().manual_seed(0)
        for index in range(8):
            if kind == "images":
                x = torch.randn(size, 3, extent, extent, generator=draw)
                yield x, torch.randint(0, 1000, (size,), generator=draw)
                continue
            tokens = torch.randint(1, 8000, (size, extent), generator=draw)
            if kind == "sentences":  # the fourth batch is the longest
                tokens = tokens[:, : extent - 8 * abs(index - 3)]
                tokens[0, extent // 2 :] = 0
            yield tokens, tokens

    def loss(model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return functional.cross_entropy(model(x).flatten(0, -2).float(), y.flatten())

    return SimpleNamespace(build_model=build, train_dataloader=batches, loss=loss)
