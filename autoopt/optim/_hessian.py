"""Hutchinson's estimate of a Hessian's diagonal: probes, exact products, and averages within a tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from autoopt.optim._blocks import compute_dtype, local, real

Block = int | str | None


def draw(
    params: Sequence[Tensor], generator: torch.Generator | None, size: float | Tensor = 1.0
) -> list[Tensor]:
    """For each parameter a tensor like it of independent signs times `size`; both parts for complex ones.

    The signs are those of 2 * torch.randint(0, 2, p.shape, generator=generator) - 1, parameter by parameter,
    without its 8 bytes per element. A sharded parameter gets its part of the probe of the whole tensor, so
    that shards agree with one device.
    """
    drawn: list[Tensor] = []
    for (on_cpu, dtype, sharded), alike in groupby(params, partial(_kind, generator=generator)):
        run = list(alike)
        device = torch.device("cpu") if on_cpu else generator.device if generator else run[0].device
        # A CPU's numbers run on from call to call, so one call serves many parameters; a GPU's do not, and
        # whole tensors of sharded parameters are better made one by one.
        for some in [run] if on_cpu and not sharded else [[p] for p in run]:
            sizes = [p.numel() * (2 if p.is_complex() else 1) for p in some]
            z = torch.empty(sum(sizes), dtype=dtype, device=device).random_(0, 2, generator=generator)
            z.mul_(2 * size).sub_(size)
            drawn += [_shaped(piece, p) for piece, p in zip(torch.split(z, sizes), some, strict=True)]
    return drawn


def _kind(p: Tensor, generator: torch.Generator | None) -> tuple[bool, torch.dtype, bool]:
    device = p.device if generator is None else generator.device
    return device.type == "cpu", p.dtype.to_real(), isinstance(p, DTensor)


def _shaped(signs: Tensor, p: Tensor) -> Tensor:
    if signs.device != p.device:
        signs = signs.to(p.device)
    z = torch.view_as_complex(signs.view(*p.shape, 2)) if p.is_complex() else signs.view(p.shape)
    return distribute_tensor(z, p.device_mesh, p.placements) if isinstance(p, DTensor) else z


def in_group() -> bool:
    """Whether other processes may have a part of the batch, or of the parameters."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def shared_generator() -> torch.Generator | None:
    """A generator with the same seed on every rank; None where there is one process only."""
    if not in_group():
        return None
    seed: list[int] = [int(torch.randint(0, 2**62, ()).item())]
    dist.broadcast_object_list(seed)
    return torch.Generator().manual_seed(seed[0])


def exact_products(
    params: Sequence[Tensor], grads: Sequence[Tensor], probes: Sequence[Tensor], *, keep_graph: bool
) -> list[Tensor]:
    """H z by one differentiation of sum_i <g_i, z_i>; zeros where nothing depends on a parameter.

    Args:
        params: where to differentiate.
        grads: their gradients, with graph; those without one depend on no parameter.
        probes: z, one for each gradient.
        keep_graph: whether another product will be taken from the same graph.
    """
    linked = [i for i, g in enumerate(grads) if g.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(params)
    if linked:
        found = torch.autograd.grad(
            [grads[i] for i in linked],
            list(params),
            [probes[i].to(grads[i].dtype) for i in linked],
            retain_graph=keep_graph,
            allow_unused=True,
        )
    return apart(
        [torch.zeros_like(p) if hz is None else hz.detach() for p, hz in zip(params, found, strict=True)]
    )


def apart(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors, copied where they share memory or lie in a larger buffer, so that each may be overwritten.

    autograd gives two parameters that are added one gradient in common, and that of a sum is one number
    expanded.
    """
    seen: set[int] = set()
    result = []
    for t in tensors:
        mine = local(t)
        storage = mine.untyped_storage()
        whole = storage.nbytes() == mine.numel() * mine.element_size()
        if not whole or storage._cdata in seen:
            t = t.clone(memory_format=torch.contiguous_format)
        else:
            seen.add(storage._cdata)
        result.append(t)
    return result


def obstacle(grads: Iterable[Tensor]) -> str | None:
    """What in the gradients' graph has no second derivative, or None.

    Looked for in the graph because differentiating does not always fail there: a gradient of a function that is
    differentiable once is cut off silently, as if it had no curvature.
    """
    for node in _nodes(grads):
        name = node.name()
        if name.startswith("CompiledFunction"):
            return "a compiled model has no second derivative"
        if name == "torch::autograd::Error":
            return "the loss contains a function that is differentiable once only"
    return None


def leaves(grads: Iterable[Tensor]) -> list[Tensor]:
    """The leaves that the gradients' graph would differentiate by: parameters, and inputs of the loss."""
    return [node.variable for node in _nodes(grads) if hasattr(node, "variable")]


def _nodes(grads: Iterable[Tensor]) -> Iterator[Any]:
    waiting: list[Any] = [g.grad_fn for g in grads if g.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        yield node
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)


class Average:
    """The running mean of z * (H z) over probes, for each parameter."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._means: list[Tensor] = []

    def add(self, products: list[Tensor]) -> None:
        """Adds one probe's z * (H z), local and real, overwriting them."""
        if self._samples > 1 and products:
            torch._foreach_div_(products, self._samples)
        if self._means:
            torch._foreach_add_(self._means, products)
        else:
            self._means = products

    def diagonals(self) -> list[Tensor]:
        """The means, in the parameters' shapes."""
        return self._means


def signed(probes: Sequence[Tensor], products: Sequence[Tensor]) -> list[Tensor]:
    """z * (H z), local and real, in at least float32; overwrites H z."""
    result = []
    for hz in products:
        term = real(hz)
        result.append(term.to(compute_dtype(term.dtype)))
    if result:
        torch._foreach_mul_(result, [real(z) for z in probes])
    return result


def smooth_(values: Tensor, p: Tensor, block: Block) -> Tensor:
    """D of a tensor: absolute values averaged in place over its blocks.

    Args:
        values: absolute estimates of the diagonal, shaped as `p` (complex: with a last dimension of 2).
        p: the parameter.
        block: None averages convolution kernels (3 to 5 dimensions) over their spatial dimensions and nothing
            else; "row" does so too, and averages matrices over the input dimension; an integer averages
            runs of that many elements of the flattened tensor, whatever its shape.
    """
    if isinstance(block, int):
        # Complex numbers: a run of `block` numbers, real and imaginary parts apart.
        parts = (-1, block, 2) if p.is_complex() else (-1, block)
        runs = values.reshape(parts)
        return values.copy_(runs.mean(1, keepdim=True).expand_as(runs).reshape(values.shape))
    dims = _mean_dims(block, p)
    return values.copy_(values.mean(dims, keepdim=True).expand_as(values)) if dims else values


def _mean_dims(block: Block, p: Tensor) -> list[int]:
    if 3 <= p.dim() <= 5:
        return list(range(2, p.dim()))
    return [1] if p.dim() == 2 and block == "row" else []


def check_block(block: Block, params: Iterable[tuple[str, Tensor]]) -> None:
    """Raises ValueError, naming the parameter, where a block does not divide a tensor or crosses its shards."""
    length = isinstance(block, int) and not isinstance(block, bool) and block >= 1
    if not length and block is not None and block != "row":
        raise ValueError(f'block must be None, "row" or a positive integer, not {block!r}')
    for name, p in params:
        if isinstance(block, int) and p.numel() % block:
            raise ValueError(
                f"block {block} does not divide the {p.numel()} elements of {name}, shape {tuple(p.shape)}. "
                "Give it a parameter group of its own with another block, or block=None."
            )
        if isinstance(p, DTensor) and _crosses(block, p):
            what = f"block {block}" if block is not None else "the mean over a kernel"
            raise ValueError(
                f"{what} crosses the shards of {name}, shape {tuple(p.shape)}, placements {p.placements}. "
                "Shard it along its first dimension, or choose a block that divides each shard."
            )


def _crosses(block: Block, p: DTensor) -> bool:
    """Whether D would be averaged over numbers of several ranks; the same answer on all of them."""
    split = [(q, p.device_mesh.size(i)) for i, q in enumerate(p.placements) if not q.is_replicate()]
    if not isinstance(block, int):
        means = _mean_dims(block, p)
        return any(getattr(q, "dim", 0) in means for q, _ in split)
    if not split:
        return False
    if len(split) > 1 or split[0][0] != Shard(0):
        return True  # a shard is no run of the flattened tensor
    rows, processes = p.size(0), split[0][1]
    chunk = -(-rows // processes)  # of every rank but the last ones, which get what is left
    return chunk < rows and chunk * math.prod(p.shape[1:]) % block != 0
