"""What a GPU would do where a CPU does otherwise: fake tensors live on the CPU, memory is asked for a GPU.

Fake CUDA tensors are no way: without a CUDA build of torch their backward pass aborts the process. So the few
functions whose saved tensors differ are replaced by what CUDA runs: fused dropout (a mask of one byte), fused
attention (no matrix of weights, also with dropout), fused RMSNorm, and CUDA's list of functions that autocast
runs in float32 (PyTorch's documentation of `torch.amp`, "Op-specific behavior").
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_HALVES = (torch.bfloat16, torch.float16)
_FLOAT32: frozenset[Any] = frozenset(
    {
        functional.layer_norm,
        functional.group_norm,
        functional.softmax,
        functional.log_softmax,
        functional.softmin,
        functional.softplus,
        functional.cross_entropy,
        functional.nll_loss,
        functional.mse_loss,
        functional.l1_loss,
        functional.smooth_l1_loss,
        functional.kl_div,
        functional.cosine_similarity,
        functional.cosine_embedding_loss,
        functional.normalize,
        torch.softmax,
        torch.log_softmax,
        torch.exp,
        torch.log,
        torch.pow,
        torch.sum,
        torch.prod,
        torch.cumsum,
        torch.norm,
        torch.rsqrt,
        Tensor.softmax,
        Tensor.log_softmax,
        Tensor.exp,
        Tensor.log,
        Tensor.pow,
        Tensor.__pow__,
        Tensor.sum,
        Tensor.cumsum,
        Tensor.norm,
        Tensor.rsqrt,
    }
)


class GpuOps(TorchFunctionMode):
    """Inside it the functions above leave behind what they would leave on a GPU.

    Args:
        autocast: whether mixed precision is on, so that some functions go back to float32.
        twice: whether gradients are differentiated again, for which fused attention does not serve.
    """

    def __init__(self, *, autocast: bool, twice: bool = False) -> None:
        super().__init__()
        self._twice = twice
        self._autocast = autocast

    @contextlib.contextmanager
    def in_backward_too(self) -> Iterator[None]:
        """Keeps the mode on in backward passes: torch switches it off in there, where checkpoints recompute."""
        names = vars(torch.autograd)
        before = names["_engine_run_backward"]

        def run(*args: Any, **kwargs: Any) -> Any:
            with GpuOps(autocast=self._autocast, twice=self._twice):
                return before(*args, **kwargs)

        names["_engine_run_backward"] = run
        try:
            with self:
                yield
        finally:
            names["_engine_run_backward"] = before

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        replacement = (_WITH_MATRIX if self._twice else _REPLACED).get(func)
        if replacement is not None:
            return replacement(func, *args, **kwargs)
        if self._autocast and func in _FLOAT32:
            args = tuple(_wide(value) for value in args)
        return func(*args, **kwargs)


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in _HALVES else value


def _dropout(func: Any, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if not training or not 0 < p < 1:
        return func(x, p, training, inplace)  # type: ignore[no-any-return]
    result: Tensor = torch.native_dropout(x, p, True)[0]
    return x.copy_(result) if inplace else result


def _torch_dropout(func: Any, x: Tensor, p: float, train: bool) -> Tensor:
    return _dropout(lambda x, p, train, _: func(x, p, train), x, p, train)


def _attention(func: Any, *args: Any, **kwargs: Any) -> Tensor:
    # query, key, value, attn_mask, dropout_p: with dropout a CPU falls back to the matrix of weights.
    if len(args) > 4:
        args = (*args[:4], 0.0, *args[5:])
    kwargs.pop("dropout_p", None)
    return func(*args, **kwargs)  # type: ignore[no-any-return]


def _attention_with_matrix(
    func: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **kwargs: Any,
) -> Tensor:
    """What CUDA runs where no fused kernel serves: only its dropout differs from a CPU's (a mask of one byte)."""
    if not dropout_p:
        return func(query, key, value, attn_mask, dropout_p, is_causal, **kwargs)  # type: ignore[no-any-return]
    dtype = query.dtype
    if dtype in _HALVES:  # torch computes this way in float32
        query, key, value = query.float(), key.float(), value.float()
    root = query.shape[-1] ** -0.25
    with torch.autocast("cpu", enabled=False):
        weights = (query * root) @ (key.transpose(-2, -1) * root)
        if is_causal:
            weights = weights + torch.zeros(weights.shape[-2:], dtype=weights.dtype).triu_(1)
        elif attn_mask is not None:
            weights = weights + attn_mask
        result = torch.native_dropout(torch.softmax(weights, -1), dropout_p, True)[0] @ value
    return result.to(dtype)


def _multi_head(func: Any, *args: Any, **kwargs: Any) -> Any:
    # torch calls the attention inside it where this mode does not see it.
    call = _MULTI_HEAD.bind(*args, **kwargs)
    if not call.arguments.get("need_weights", True):
        call.arguments["dropout_p"] = 0.0
    return func(*call.args, **call.kwargs)


_MULTI_HEAD = inspect.signature(functional.multi_head_attention_forward)


class _RmsNorm(torch.autograd.Function):
    """The shapes of CUDA's fused RMSNorm: it keeps its input and one number a row; values are nobody's concern."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None) -> Tensor:
        rows = torch.empty(x.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(x, rows, weight)
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        x, rows, weight = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return torch.empty_like(x), None if weight is None else torch.empty_like(weight)
        # To be differentiated again it is made of operations that can be.
        scale = rows.unsqueeze(-1).to(x.dtype)
        unit = x * scale
        inner = grad if weight is None else grad * weight
        moved = (inner - unit * (inner * unit).mean(-1, keepdim=True)) * scale
        return moved, None if weight is None else (grad * unit).flatten(0, -2).sum(0)


def _rms_norm(
    func: Any, x: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    last = isinstance(normalized_shape, int) or len(normalized_shape) == 1
    if not last or (weight is not None and weight.dtype != x.dtype):
        return func(x, normalized_shape, weight, eps)  # type: ignore[no-any-return]
    result: Tensor = _RmsNorm.apply(x, weight)  # type: ignore[no-untyped-call]
    return result


_REPLACED: dict[Any, Callable[..., Any]] = {
    functional.dropout: _dropout,
    torch.dropout: _torch_dropout,
    functional.scaled_dot_product_attention: _attention,
    functional.multi_head_attention_forward: _multi_head,
    functional.rms_norm: _rms_norm,
}
_WITH_MATRIX = {
    **{func: made for func, made in _REPLACED.items() if func is not functional.multi_head_attention_forward},
    functional.scaled_dot_product_attention: _attention_with_matrix,
}
