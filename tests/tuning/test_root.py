from __future__ import annotations

import numpy as np
import pytest

from autoopt.tuning.root import Root, Rows, forward


def covariance(n: int) -> np.ndarray:
    some = np.random.default_rng(n).standard_normal((n, n))
    return some @ some.T + np.eye(n)


@pytest.mark.parametrize("n", [1, 5, 64, 65, 200])
def test_grown_row_by_row_it_is_the_root_of_the_whole(n: int) -> None:
    whole, root = covariance(n), Root()
    begin = 0
    while begin < n:
        end = min(n, begin + max(1, n // 3))
        root = root.grown(whole[:begin, begin:end], whole[begin:end, begin:end])
        begin = end
    assert root.matrix == pytest.approx(np.linalg.cholesky(whole), abs=1e-8)


def test_two_that_grow_from_one_do_not_disturb_each_other() -> None:
    whole = covariance(6)
    few = Root().grown(np.zeros((0, 2)), whole[:2, :2]).grown(whole[:2, 2:4], whole[2:4, 2:4])
    one = few.grown(whole[:4, 4:5], whole[4:5, 4:5])
    other = few.grown(whole[:4, 5:6], whole[5:6, 5:6])
    chosen = [0, 1, 2, 3, 5]
    assert one.matrix == pytest.approx(np.linalg.cholesky(whole[:5, :5]))
    assert other.matrix == pytest.approx(np.linalg.cholesky(whole[np.ix_(chosen, chosen)]))
    assert few.cut(3).matrix == pytest.approx(np.linalg.cholesky(whole[:3, :3]))


def test_triangles_are_solved_by_blocks() -> None:
    whole = covariance(150)
    lower, right = np.linalg.cholesky(whole), np.random.default_rng(0).standard_normal(150)
    root = Root().grown(np.zeros((0, 150)), whole)
    assert forward(lower, right) == pytest.approx(np.linalg.solve(lower, right))
    assert root.solve_transposed(right) == pytest.approx(np.linalg.solve(lower.T, right))


def test_rows_that_follow_one_another_and_rows_that_branch() -> None:
    first = Rows(np.ones((2, 3)))
    longer = first.grown(2 * np.ones((1, 3)))
    branch = first.grown(3 * np.ones((2, 3)))
    again = longer.grown(4 * np.ones((1, 3)))
    assert again.matrix[:, 0].tolist() == [1, 1, 2, 4]
    assert branch.matrix[:, 0].tolist() == [1, 1, 3, 3]
    assert again.cut(1).grown(5 * np.ones((1, 3))).matrix[:, 0].tolist() == [1, 5]
    assert again.matrix[:, 0].tolist() == [1, 1, 2, 4]
