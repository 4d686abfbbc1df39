"""The lower root of a covariance that grows: a trial more costs n^2, where a new factorisation costs n^3."""

from __future__ import annotations

import numpy as np

from autoopt.tuning.belief import Matrix, Vector

_BLOCK = 64
"""Rows that are solved at once: numpy has no triangular solver, and products of blocks take nearly all of the time."""


class Rows:
    """A matrix that rows are appended to; immutable, and those that follow share its memory.

    Args:
        matrix: (rows, columns) to begin with.
    """

    def __init__(self, matrix: Matrix) -> None:
        self._store, self._number, self._followed = matrix, len(matrix), False

    def __len__(self) -> int:
        return self._number

    @property
    def matrix(self) -> Matrix:
        """(rows, columns)"""
        return self._store[: self._number]

    def cut(self, number: int) -> Rows:
        """The first rows alone."""
        return self if number >= self._number else Rows(self._store[:number].copy())

    def grown(self, more: Matrix) -> Rows:
        """These and more."""
        after, store = self._number + len(more), self._store
        if after > len(store) or self._followed:
            store = np.empty((max(self._number + self._number // 2, after), store.shape[1]))
            store[: self._number] = self.matrix
        else:
            self._followed = True  # whoever else grows from here takes memory of its own
        store[self._number : after] = more
        found = Rows(store)
        found._number = after
        return found


class Root:
    """L with L L^T = the covariance of n points; immutable.

    >>> root = Root().grown(np.zeros((0, 1)), np.array([[4.0]])).grown(np.array([[2.0]]), np.array([[5.0]]))
    >>> root.matrix.tolist()
    [[2.0, 0.0], [1.0, 2.0]]
    """

    def __init__(self, store: Matrix | None = None, number: int = 0) -> None:
        self._store = np.zeros((0, 0)) if store is None else store
        self._number = number
        self._followed = False

    def __len__(self) -> int:
        return self._number

    @property
    def matrix(self) -> Matrix:
        """(n, n), zero above the diagonal."""
        return self._store[: self._number, : self._number]

    def cut(self, number: int) -> Root:
        """That of the first points alone."""
        if number == self._number:
            return self
        return Root(self._store[:number, :number].copy(), number)

    def grown(self, cross: Matrix, own: Matrix) -> Root:
        """With k points more, in k n^2 operations.

        Args:
            cross: (n, k) covariance of these points with the new ones.
            own: (k, k) covariance of the new ones.
        """
        n, after = self._number, self._number + len(own)
        store = self._store
        if after > len(store) or self._followed:
            size = max(n + n // 2, after) if n else after
            store = np.zeros((size, size))
            store[:n, :n] = self.matrix
        else:
            self._followed = True  # whoever else grows from here takes memory of its own
        below = forward(self.matrix, cross)
        store[n:after, :n] = below.T
        store[n:after, n:after] = np.linalg.cholesky(own - below.T @ below)
        return Root(store, after)

    def solve(self, right: Matrix) -> Matrix:
        """L^-1 of (n, k)."""
        return forward(self.matrix, right)

    def solve_transposed(self, right: Vector) -> Vector:
        """L^-T of (n,)."""
        lower, found = self.matrix, right.copy()
        starts = range(0, self._number, _BLOCK)
        for begin in reversed(starts):
            end = min(begin + _BLOCK, self._number)
            rest = found[begin:end] - lower[end:, begin:end].T @ found[end:]
            found[begin:end] = np.linalg.solve(lower[begin:end, begin:end].T, rest)
        return found


def forward(lower: Matrix, right: Matrix) -> Matrix:
    """L^-1 of (n, k) or (n,), by blocks.

    >>> forward(np.array([[2.0, 0.0], [1.0, 2.0]]), np.array([2.0, 5.0])).tolist()
    [1.0, 2.0]
    """
    found = np.array(right, dtype=float)
    for begin in range(0, len(lower), _BLOCK):
        end = min(begin + _BLOCK, len(lower))
        if begin:
            found[begin:end] -= lower[begin:end, :begin] @ found[:begin]
        found[begin:end] = np.linalg.solve(lower[begin:end, begin:end], found[begin:end])
    return found
