"""EASE in columns, beside its formula without any shortcut."""

import numpy as np
import pytest

from tf_hqgnn.graph.ease import ease_rows


def drawn(num_users, num_items, seed=3):
    """What users took, as a table and as CSR; the last user and the last item have nothing."""
    rng = np.random.default_rng(seed)
    # Few groups of items, so that scores have few large singular values.
    groups = rng.integers(0, 6, num_items)
    likes = rng.random((num_users, 6)) < 0.3
    table = (rng.random((num_users, num_items)) < np.where(likes[:, groups], 0.4, 0.02)).astype(float)
    table[-1], table[:, -1] = 0, 0
    indptr = np.append(0, np.cumsum(table.sum(1))).astype(np.int64)
    return table, (indptr, np.nonzero(table)[1].astype(np.int32))


def published(table, regularization):
    """Equation 8 of the paper, and the scores."""
    inverse = np.linalg.inv(table.T @ table + regularization * np.eye(table.shape[1]))
    weights = np.eye(table.shape[1]) - inverse @ np.diag(1 / np.diag(inverse))
    return table @ weights


@pytest.mark.parametrize(("num_users", "num_items"), [(90, 40), (40, 90)])
@pytest.mark.parametrize("regularization", [1.0, 50.0])
def test_all_columns_give_the_scores_of_the_paper(num_users, num_items, regularization):
    table, seen = drawn(num_users, num_items)
    users, items = ease_rows(seen, num_items, 1000, regularization, seed=1)
    assert users.shape[1] == items.shape[1] <= min(num_users, num_items)
    assert users.dtype == items.dtype == np.float32
    np.testing.assert_allclose(users @ items.T, published(table, regularization), atol=2e-5)


def test_few_columns_give_the_best_approximation():
    table, seen = drawn(300, 120)
    scores = published(table, 20.0)
    left, strength, right = np.linalg.svd(scores, full_matrices=False)
    users, items = ease_rows(seen, 120, 8, 20.0, seed=1)
    assert users.shape == (300, 8)
    best = np.linalg.norm(scores - (left[:, :8] * strength[:8]) @ right[:8])
    assert np.linalg.norm(scores - users @ items.T) < 1.01 * best
    # An item that nobody took, and a user without history.
    assert not users[-1].any()
    assert np.abs(items[-1]).max() < 1e-5
