"""Muon for the hidden matrices and AdamW for the rest, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

_TINY = {True: 1e-7, False: 1e-8}
"""eps of torch's Muon and of AdamW, by `group["matrices"]`."""


class MuonWithAdamW(Optimizer):
    r"""torch's Muon on hidden matrices, torch's AdamW on everything else, with one rate and one weight decay.

    For a matrix W of shape (m, n) with gradient G, momentum mu and rate a:

        B <- mu B + (1 - mu) G
        O  = NewtonSchulz((1 - mu) G + mu B)                 about U V^T of the singular value decomposition
        W <- (1 - a lambda) W - a 0.2 sqrt(max(m, n)) O

    The factor gives the step the root mean square of an AdamW step (Liu 2025, arXiv 2502.16982, equation 4),
    so that one learning rate serves both. Memory: 4 bytes per float32 parameter of a matrix, 8 elsewhere.
    A step costs 15 products of matrices (3 an iteration): noticeable on small batches, little on large ones.

    Worth trying: transformers and wide MLPs from scratch, lr 1e-3 to 1e-2, weight decay 0.01 to 0.1.

    Args:
        params: tensors, or parameter groups. A group with "matrices": True goes to Muon, with False to AdamW;
            one that does not say is split by shape (two dimensions or not), which cannot tell an embedding
            from a hidden matrix: `autoopt.optim.groups` can.
        lr: of both.
        weight_decay: decoupled, of both.
        momentum: of Muon.
        nesterov: of Muon.
        ns_steps: Newton-Schulz iterations of Muon.
        betas: of AdamW.

    Raises:
        AttributeError: this torch has no Muon (before 2.9).

    >>> net = torch.nn.Linear(3, 2)
    >>> optimizer = MuonWithAdamW(net.parameters(), lr=1e-3)
    >>> [(g["matrices"], len(g["params"])) for g in optimizer.param_groups]
    [(True, 1), (False, 1)]
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 5e-3,
        weight_decay: float = 0.05,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> None:
        self._parts: list[Optimizer] | None = None
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_steps": ns_steps,
            "betas": betas,
        }
        super().__init__(params, defaults)
        self._inner()  # their constructors check lr, betas and shapes

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group; one without "matrices" is split in two by shape."""
        self._parts = None
        if "matrices" in param_group:
            param_group.setdefault("eps", _TINY[bool(param_group["matrices"])])
            super().add_param_group(param_group)
            return
        given = param_group["params"]
        members = [given] if isinstance(given, Tensor) else list(given)
        rest = {key: value for key, value in param_group.items() if key != "params"}
        for matrices in (True, False):
            # A member is a tensor or, from named_parameters(), a pair of name and tensor.
            part = [m for m in members if ((m if isinstance(m, Tensor) else m[1]).ndim == 2) is matrices]
            if part:
                self.add_param_group({**rest, "params": part, "matrices": matrices})

    def _inner(self) -> list[Optimizer]:
        """torch's two optimizers over our own groups and state: they hold nothing of their own.

        Sharing makes state_dict, schedulers, hooks, copies and pickles of this object complete as they are.
        Made anew whenever the groups may have been replaced.
        """
        if self._parts is None:
            self._parts = []
            for matrices in (True, False):
                mine = [group for group in self.param_groups if bool(group["matrices"]) is matrices]
                if not mine:
                    continue
                part = self._part([dict(group) for group in mine], matrices=matrices)
                for group, theirs in zip(mine, part.param_groups, strict=True):
                    for key, value in theirs.items():
                        group.setdefault(key, value)
                part.param_groups, part.state = mine, self.state
                self._parts.append(part)
        return self._parts

    def _part(self, groups: list[dict[str, Any]], *, matrices: bool) -> Optimizer:
        # The groups hold every value already; the constructors are given them only to check them.
        d = self.defaults
        if not matrices:
            return AdamW(groups, lr=d["lr"], weight_decay=d["weight_decay"], betas=d["betas"])
        return torch.optim.Muon(
            groups,
            lr=d["lr"],
            weight_decay=d["weight_decay"],
            momentum=d["momentum"],
            nesterov=d["nesterov"],
            ns_steps=d["ns_steps"],
            adjust_lr_fn="match_rms_adamw",
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._parts = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both; returns the closure's loss, if a closure is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._refuse()
        for part in self._inner():
            # Without torch's wrapper: hooks that watch all optimizers are to see one step, not three.
            step: Any = type(part).step
            getattr(step, "__wrapped__", step)(part)
        return loss

    def _refuse(self) -> None:
        """What one of the two refuses is refused before the other has moved anything."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.is_sparse:
                    raise RuntimeError(
                        "MuonWithAdamW does not support sparse gradients. Build the embedding with "
                        "sparse=False, or give its parameters to torch.optim.SparseAdam."
                    )
                if group["matrices"] and p.is_complex():
                    raise RuntimeError(
                        "MuonWithAdamW does not support complex parameters as matrices. Put them into a group "
                        'with "matrices": False.'
                    )
