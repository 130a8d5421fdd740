"""The truncated SVD against NumPy's full one and scikit-learn's randomised one."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.utils.extmath import randomized_svd

from tf_hqgnn.graph import truncated_svd as module
from tf_hqgnn.graph.truncated_svd import truncated_svd


def sparse(num_rows, num_columns, density=0.2, seed=0):
    return scipy.sparse.random(num_rows, num_columns, density, "csr", np.float32, np.random.default_rng(seed))


@pytest.mark.parametrize("shape", [(60, 25), (25, 60), (40, 40)])
def test_the_singular_vectors_are_those_of_the_full_decomposition(shape):
    matrix = sparse(*shape)
    left, strength, right = truncated_svd(matrix, rank=6, num_iterations=30, seed=0)
    expected_left, expected, expected_right = np.linalg.svd(matrix.toarray().astype(np.float64))
    assert left.dtype == strength.dtype == right.dtype == np.float32
    np.testing.assert_allclose(strength, expected[:6], rtol=1e-5)
    # A pair of vectors is known up to its sign.
    for found, vectors in ((left, expected_left[:, :6]), (right, expected_right[:6].T)):
        np.testing.assert_allclose(np.abs(found.T @ vectors), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(left * strength @ right.T, (matrix @ right) @ right.T, atol=1e-4)


@pytest.mark.parametrize("num_iterations", [0, 2, 8])
def test_finds_as_much_of_the_matrix_as_scikit_learn(num_iterations):
    matrix = sparse(800, 500, 0.02)
    found, expected = [], []
    for seed in range(5):
        found.append(truncated_svd(matrix, 20, num_iterations, seed)[1].sum())
        expected.append(randomized_svd(matrix, 20, n_iter=num_iterations, random_state=seed)[1].sum())
    assert np.mean(found) == pytest.approx(np.mean(expected), rel=0.003)


def test_columns_are_orthonormal():
    left, strength, right = truncated_svd(sparse(3000, 2000, 0.01), rank=64, num_iterations=8, seed=0)
    assert (np.diff(strength) <= 0).all()
    for columns in (left, right):
        np.testing.assert_allclose(columns.T @ columns, np.eye(64), atol=1e-5)


def test_pieces_and_tiles_change_nothing_but_rounding(monkeypatch):
    matrix = sparse(500, 300, 0.1)
    whole = truncated_svd(matrix, 8, 4, seed=0)
    # Rows of 18 columns take 72 bytes: pieces of 7 rows, tiles of 41.
    monkeypatch.setattr(module, "PIECE_BYTES", 7 * 72)
    monkeypatch.setattr(module, "TILE_BYTES", 41 * 72)
    cut = truncated_svd(matrix, 8, 4, seed=0)
    for found, expected in zip(cut, whole):
        np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-4)


def test_the_same_seed_gives_the_same_bits_on_any_number_of_processors(monkeypatch):
    matrix = sparse(500, 300, 0.1)
    monkeypatch.setattr(module, "PIECE_BYTES", 7 * 72)
    first = truncated_svd(matrix, 8, 4, seed=3)
    for found, expected in zip(truncated_svd(matrix, 8, 4, seed=3), first):
        np.testing.assert_array_equal(found, expected)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 5)
    for found, expected in zip(truncated_svd(matrix, 8, 4, seed=3), first):
        np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(truncated_svd(matrix, 8, 4, seed=4)[0], first[0])


def test_a_matrix_of_lower_rank_has_fewer_vectors():
    rng = np.random.default_rng(0)
    dense = (rng.normal(size=(50, 3)) @ rng.normal(size=(3, 40))).astype(np.float32)
    left, strength, right = truncated_svd(scipy.sparse.csr_matrix(dense), rank=10, num_iterations=4, seed=0)
    assert (left.shape, strength.shape, right.shape) == ((50, 3), (3,), (40, 3))
    np.testing.assert_allclose(left * strength @ right.T, dense, atol=1e-4)


@pytest.mark.parametrize(("shape", "rank"), [((5, 3), 10), ((1, 1), 4), ((30, 2), 2)])
def test_more_than_there_is_gives_all_there_is(shape, rank):
    dense = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    left, strength, right = truncated_svd(scipy.sparse.csr_matrix(dense), rank, num_iterations=4, seed=0)
    assert len(strength) == min(shape)
    np.testing.assert_allclose(left * strength @ right.T, dense, atol=1e-5)


def test_a_matrix_of_zeros_has_none():
    left, strength, right = truncated_svd(scipy.sparse.csr_matrix((6, 4), dtype=np.float32), 2, 3, seed=0)
    assert (left.shape, strength.shape, right.shape) == ((6, 0), (0,), (4, 0))
