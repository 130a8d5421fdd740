import itertools

import numpy as np
import pytest

from tf_hqgnn.quantization.code_descent import descend_levels, fit_all_scores, nearest_levels
from tf_hqgnn.quantization.rotation import coding_rotation, refit_users


def problem(seed, num_rows=40, dim=6, shared=False):
    """A positive definite matrix for each row, or for all, and what is wanted of each row."""
    random = np.random.default_rng(seed)
    factors = random.normal(size=([] if shared else [num_rows]) + [dim, dim])
    gram = factors @ np.swapaxes(factors, -1, -2) + 0.1 * np.eye(dim)
    return gram.astype(np.float32), random.normal(size=(num_rows, dim)).astype(np.float32)


def objective(levels, scale, gram, wanted):
    gram = np.broadcast_to(gram, (len(levels), *gram.shape[-2:])).astype(np.float64)
    values = scale[:, np.newaxis].astype(np.float64) * levels
    return np.einsum("nd,nde,ne->n", values, gram, values) - 2 * np.einsum("nd,nd->n", values, wanted)


@pytest.mark.parametrize("num_bits", [1, 2, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_no_sweep_raises_the_objective_of_any_row(num_bits, shared):
    gram, wanted = problem(num_bits, shared=shared)
    levels, scale = nearest_levels(wanted[:, ::-1], num_bits), np.full(len(wanted), 0.7, np.float32)
    values = [objective(levels, scale, gram, wanted)]
    for _ in range(6):
        levels, scale = descend_levels(levels, scale, gram, wanted, num_bits, num_sweeps=1)
        assert np.isin(levels, nearest_levels(levels, num_bits)).all()
        assert (scale >= 0).all()
        values.append(objective(levels, scale, gram, wanted))
    assert (np.diff(values, axis=0) < 1e-4).all()
    assert np.mean(values[-1]) < np.mean(values[0]) - 0.5


@pytest.mark.parametrize("num_bits", [1, 2])
def test_no_other_level_of_one_column_is_better_at_the_end(num_bits):
    gram, wanted = problem(5, num_rows=10, dim=4)
    start = nearest_levels(wanted, num_bits), np.ones(len(wanted), np.float32)
    levels, scale = descend_levels(*start, gram, wanted, num_bits, num_sweeps=50)
    found = objective(levels, scale, gram, wanted)
    for column, level in itertools.product(range(4), np.linspace(-1, 1, 2**num_bits)):
        other = levels.copy()
        other[:, column] = level
        assert (objective(other, scale, gram, wanted) > found - 1e-4).all()


def test_signs_with_an_orthogonal_matrix_are_the_best_of_all():
    gram, wanted = np.eye(5, dtype=np.float32), problem(6, num_rows=8, dim=5)[1]
    levels, scale = descend_levels(np.ones([8, 5], np.float32), np.ones(8, np.float32), gram, wanted, num_bits=1)
    found = objective(levels, scale, gram, wanted)
    for signs in itertools.product([-1.0, 1.0], repeat=5):
        # The best scale of each row for these signs.
        best = np.maximum(wanted @ np.array(signs), 0) / 5
        assert (objective(np.tile(signs, [8, 1]), best, gram, wanted) > found - 1e-5).all()


def test_scale_is_that_of_least_squares():
    design = np.random.default_rng(7).normal(size=(30, 4))
    target = np.random.default_rng(8).normal(size=30)
    gram, wanted = (design.T @ design).astype(np.float32), (target @ design)[np.newaxis].astype(np.float32)
    levels, scale = descend_levels(np.ones([1, 4], np.float32), np.ones(1, np.float32), gram, wanted, num_bits=1)
    (expected,) = np.linalg.lstsq((design @ levels[0])[:, np.newaxis], target, rcond=None)[0]
    np.testing.assert_allclose(scale[0], expected, rtol=1e-4)


def test_a_matrix_of_zeros_leaves_finite_codes():
    levels, scale = descend_levels(
        np.ones([2, 3], np.float32),
        np.ones(2, np.float32),
        np.zeros([3, 3], np.float32),
        np.zeros([2, 3], np.float32),
        1,
    )
    assert np.isin(levels, [-1, 1]).all()
    assert scale.tolist() == [1, 1]


@pytest.mark.parametrize("num_bits", [1, 2])
def test_fitted_scores_are_closer_than_those_of_a_rotation_with_fitted_users(num_bits):
    random = np.random.default_rng(9)
    spread = np.linspace(3, 0.3, 8)
    users, items = ((random.normal(size=(n, 8)) * spread).astype(np.float32) for n in (50, 300))

    def error(coded_users, decoded):
        difference = users @ items.T - coded_users @ decoded.T
        return float(np.square(difference - difference.mean(axis=1, keepdims=True)).mean())

    rotated = items @ coding_rotation(items, seed=0)
    scale = (1 if num_bits == 1 else 1.494) * np.abs(rotated).mean(axis=1, keepdims=True)
    decoded = scale * nearest_levels(rotated / scale, num_bits)
    found = []
    for num_iterations in (0, 30):
        fitted, levels, scale = fit_all_scores(users, items, num_bits, seed=0, num_iterations=num_iterations)
        found.append(error(fitted, scale[:, np.newaxis] * levels))
    assert found[1] < 0.7 * found[0]
    assert found[1] < 0.7 * error(refit_users(users, items, decoded), decoded)
