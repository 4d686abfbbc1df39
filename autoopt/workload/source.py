"""The training data: any re-iterable of batches, or a function that gives a fresh iterator each epoch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from autoopt.errors import WorkloadError
from autoopt.workload.boundary import UserCode
from autoopt.workload.calls import Calls, is_batch
from autoopt.workload.data import describe
from autoopt.workload.seeding import derive, reseed_loader, seed_everything

_END = object()


class Source:
    """Batches, epoch after epoch, each pass determined by (seed, epoch).

    Args:
        given: a loader, or a function that returns a loader or an iterator.
        name: what errors call it, e.g. "train_dataloader".
        code: the border to the user's code.

    Raises:
        WorkloadError: what is given is no source of batches, or can be read only once.
    """

    def __init__(self, given: Any, name: str, code: UserCode) -> None:
        self.name = name
        self._code = code
        self._factory: Callable[[], Any] | None = None
        self.note = ""
        """What the user should know of how the batches are drawn."""
        if _is_function(given):
            self.loader = self._make(given)
            if is_batch(self.loader):
                self.note = (
                    f"{name} gives one batch at each call ({describe(self.loader)}): it is called for each."
                )
                self.loader = Calls(lambda: code(f"{name}()", given))
            self._factory = (lambda: self._make(given)) if _is_iterator(self.loader) else None
            if _is_function(self.loader):
                inner = self.loader
                self._factory = lambda: self._make(inner)
                self.loader = self._factory()
        else:
            self.loader = given
        self._check()

    def _make(self, function: Callable[..., Any]) -> Any:
        # A seed of its own for each function: data drawn in val_dataloader() must not repeat the training data.
        seed_everything(derive(0, self.name))
        return self._code(f"{self.name}()", function)

    def _check(self) -> None:
        loader, name = self.loader, self.name
        if loader is None:
            raise WorkloadError(f"{name}() returned None.", "Return the loader (is a `return` missing?).")
        if not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
            raise WorkloadError(
                f"{name}() returned a {type(loader).__name__}, which cannot be iterated.",
                "Return a DataLoader, a list of batches, or write it as a generator.",
            )
        if isinstance(loader, (list, tuple, dict)):
            parts = list(loader.values()) if isinstance(loader, dict) else list(loader)
            if parts and all(hasattr(p, "dataset") or hasattr(p, "batch_size") for p in parts):
                raise WorkloadError(f"{name}() returned {len(parts)} loaders.", "Return one loader.")
            if isinstance(loader, dict):
                raise WorkloadError(f"{name}() returned a dict, not batches.", "Return a loader of dicts.")
        if _is_iterator(loader) and self._factory is None:
            raise WorkloadError(
                f"{name} is an iterator, which can be read only once.",
                "Give a DataLoader, a list, or the function that makes the iterator.",
            )

    @property
    def length(self) -> int | None:
        """Batches in an epoch; None where that is not known."""
        if self._factory is not None:
            return None
        try:
            return len(self.loader)
        except (TypeError, NotImplementedError):
            return None

    def epoch(self, seed: int, epoch: int) -> Iterator[Any]:
        """One pass. Random state (global, and the loader's own generators) is set right before it starts."""
        code, label = self._code, f"{self.name}()"
        reseed_loader(self.loader, seed, epoch)
        if self._factory is None:
            loader = self.loader
        else:
            with code.running(label):
                loader = self._fresh(seed, epoch)
        with code.running(label):
            iterator = iter(loader)
        while True:
            with code.running(label):
                batch = next(iterator, _END)
            if batch is _END:
                return
            yield batch

    def _fresh(self, seed: int, epoch: int) -> Any:
        assert self._factory is not None
        loader = self._factory()
        if loader is self.loader:
            raise WorkloadError(
                f"{self.name}() returns the same iterator at each call.", "Make a new one in the function."
            )
        reseed_loader(loader, seed, epoch)
        return loader

    def endless(self, seed: int) -> Generator[Any]:
        """Epoch after epoch. Raises WorkloadError when an epoch is empty."""
        self.rest()
        epoch = 0
        while True:
            empty = True
            for batch in self.epoch(seed, epoch):
                empty = False
                yield batch
            if empty:
                raise self.empty(epoch)
            epoch += 1

    def empty(self, epoch: int = 0) -> WorkloadError:
        """The error for a pass without a batch."""
        if epoch == 0:
            return WorkloadError(
                f"{self.name}() gives no batch.",
                "Is the data set empty, or smaller than a batch with drop_last=True?",
            )
        return WorkloadError(
            f"{self.name}() gives no batch the second time it is read.",
            "Return something that can be iterated again, or write it as a generator function.",
        )

    def rest(self) -> None:
        """Ends worker processes that a loader keeps between epochs (persistent_workers).

        Their random state goes on from wherever the last training left it: a new training starts new ones.
        """
        iterator = getattr(self.loader, "_iterator", None)
        if iterator is not None and hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()
            self.loader._iterator = None


def _is_iterator(value: Any) -> bool:
    return hasattr(value, "__next__")


def _is_function(value: Any) -> bool:
    """A class counts: it is called, though what it makes is iterable."""
    return callable(value) and (isinstance(value, type) or not hasattr(value, "__iter__"))
