import numpy as np

from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.quantization.rotation import coding_rotation, fit_scales, refit_users


def rows(seed, n=200, d=8):
    """Rows whose values are concentrated in few dimensions: what codes of one scale a row fit badly."""
    return np.random.default_rng(seed).normal(size=(n, d)) * np.linspace(3, 0.1, d)


def code_error(table):
    codes = Codes.quantize(table, num_bits=1).dequantize()
    return float((np.square(table - codes).sum(axis=1) / np.square(table).sum(axis=1)).mean())


def test_rotation_is_orthogonal_and_keeps_scores():
    items, users = rows(0), rows(1, n=5)
    rotation = coding_rotation(items, seed=3)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(8), atol=1e-5)
    np.testing.assert_allclose((users @ rotation) @ (items @ rotation).T, users @ items.T, rtol=1e-3, atol=1e-3)


def test_rotation_lowers_the_error_of_codes_below_a_random_one():
    items = rows(0)
    learned, random = coding_rotation(items, seed=3), coding_rotation(items, seed=3, num_iterations=0)
    assert code_error(items @ learned) < code_error(items @ random) < code_error(items)


def test_rotation_is_deterministic_and_depends_on_the_seed():
    np.testing.assert_array_equal(coding_rotation(rows(0), seed=1), coding_rotation(rows(0), seed=1))
    assert not np.allclose(coding_rotation(rows(0), seed=1), coding_rotation(rows(0), seed=2))


def test_rotation_bears_rows_of_zeros_and_one_dimension():
    assert np.isfinite(coding_rotation(np.zeros([4, 3]), seed=0)).all()
    assert abs(coding_rotation(np.ones([4, 1]), seed=0).item()) == 1


def test_refit_is_the_least_squares_solution():
    users, items = rows(2, n=6), rows(3, n=50)
    coded = Codes.quantize(items, num_bits=1).dequantize()
    expected = np.linalg.lstsq(coded.astype(np.float64), items @ users.T, rcond=None)[0].T
    np.testing.assert_allclose(refit_users(users, items, coded), expected, rtol=1e-2, atol=1e-2)


def test_refit_bears_codes_that_do_not_span_all_dimensions():
    coded = np.ones([5, 4])
    fitted = refit_users(np.ones([2, 4]), coded, coded)
    np.testing.assert_allclose(fitted @ coded.T, np.full([2, 5], 4.0), rtol=1e-3)
    assert np.isfinite(refit_users(np.ones([2, 4]), coded, np.zeros([5, 4]))).all()


def test_fitted_scales_are_those_of_least_squares():
    users, items = rows(4, n=30), rows(5, n=7)
    coded_users, coded_items = users + 0.1 * rows(6, n=30), np.sign(items)
    coded_items[3] = 0.0
    factors = fit_scales(users, items, coded_users, coded_items)
    for item, coded, factor in zip(items, coded_items, factors):
        if coded.any():
            scores = coded_users @ coded
            (expected,) = np.linalg.lstsq(scores[:, np.newaxis], users @ item, rcond=None)[0]
            np.testing.assert_allclose(factor, max(expected, 0.0), rtol=1e-4)
    assert factors[3] == 1.0
    assert fit_scales(users, -items, users, items).max() == 0.0
