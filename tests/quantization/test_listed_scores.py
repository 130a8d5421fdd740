import numpy as np
import pytest

from tf_hqgnn.quantization.code_descent import nearest_levels
from tf_hqgnn.quantization.listed_scores import ListedScores, divergence_weights, ridge_of

NUM_USERS, NUM_ITEMS, DIM, LISTED = 12, 20, 4, 5


@pytest.fixture(scope="module")
def scores():
    random = np.random.default_rng(0)
    users, items = (random.normal(size=(n, DIM)).astype(np.float32) for n in (NUM_USERS, NUM_ITEMS))
    listed = np.stack([random.choice(NUM_ITEMS, LISTED, replace=False) for _ in range(NUM_USERS)])
    weights = random.uniform(0, 1, [NUM_USERS, LISTED]).astype(np.float32)
    weights[:, -1] = 0
    return ListedScores(users, items, listed, weights, random.uniform(0.01, 0.1, NUM_USERS).astype(np.float32))


def dense_weights(scores):
    weights = np.tile(scores.rest[:, np.newaxis].astype(np.float64), [1, NUM_ITEMS])
    np.add.at(weights, (np.arange(NUM_USERS)[:, np.newaxis], scores.listed), scores.weights)
    return weights


def objective(scores, users, constants, decoded, ridge):
    difference = scores.users @ scores.items.T - users @ decoded.T - constants[:, np.newaxis]
    squares = (dense_weights(scores) * np.square(difference)).sum()
    return squares + ridge * (np.square(users).sum() + np.square(constants).sum())


def test_weights_give_least_squares_the_gradient_of_the_divergence():
    random = np.random.default_rng(1)
    teacher, student = random.normal(size=(2, 7))

    def log_softmax(logits):
        return logits - np.log(np.exp(logits).sum())

    def divergence(logits):
        return float((np.exp(log_softmax(teacher)) * (log_softmax(teacher) - log_softmax(logits))).sum())

    step = 1e-5
    expected = [(divergence(student + step * e) - divergence(student - step * e)) / (2 * step) for e in np.eye(7)]
    weights = divergence_weights(np.exp(log_softmax(teacher)), np.exp(log_softmax(student)))
    np.testing.assert_allclose(weights * (log_softmax(student) - log_softmax(teacher)), expected, rtol=1e-4, atol=1e-7)


def test_weights_lie_between_both_shares_and_bear_zeros():
    p, q = np.array([0.3, 0.0, 0.2, 0.0]), np.array([0.1, 0.4, 0.2, 0.0])
    weights = divergence_weights(p, q)
    assert (weights >= np.minimum(p, q) - 1e-7).all()
    assert (weights <= np.maximum(p, q) + 1e-7).all()


def test_users_are_those_of_weighted_least_squares(scores):
    decoded = np.random.default_rng(2).normal(size=(NUM_ITEMS, DIM)).astype(np.float32)
    users, constants = scores.fit_users(decoded)
    columns = np.hstack([decoded, np.ones([NUM_ITEMS, 1])]).astype(np.float64)
    ridge = np.sqrt(float(ridge_of(decoded))) * np.eye(DIM + 1)
    assert float(ridge_of(decoded)) == pytest.approx(1e-3 * np.square(columns).mean(), rel=1e-4)
    for user, weights in enumerate(np.sqrt(dense_weights(scores))):
        targets = scores.items @ scores.users[user]
        rows = np.vstack([weights[:, np.newaxis] * columns, ridge])
        expected = np.linalg.lstsq(rows, np.concatenate([weights * targets, np.zeros(DIM + 1)]), rcond=None)[0]
        np.testing.assert_allclose([*users[user], constants[user]], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("num_bits", [1, 2])
def test_neither_step_raises_the_objective(scores, num_bits):
    levels, scale = nearest_levels(scores.items, num_bits), np.ones(NUM_ITEMS, np.float32)
    users, constants = scores.users, np.zeros(NUM_USERS, np.float32)
    first = last = objective(scores, users, constants, scale[:, np.newaxis] * levels, 0)
    for _ in range(4):
        ridge = float(ridge_of(scale[:, np.newaxis] * levels))
        before = objective(scores, users, constants, scale[:, np.newaxis] * levels, ridge)
        users, constants = scores.fit_users(scale[:, np.newaxis] * levels)
        between = objective(scores, users, constants, scale[:, np.newaxis] * levels, ridge)
        levels, scale = scores.fit_items(users, constants, levels, scale, num_bits)
        last = objective(scores, users, constants, scale[:, np.newaxis] * levels, ridge)
        assert between <= before + 1e-3
        assert last <= between + 1e-3
    assert last < 0.5 * first


def test_codes_of_an_item_are_the_best_of_all_for_given_users(scores):
    """With one column, an item's code is a sign and a scale: what least squares gives, whatever the sign."""
    users = np.random.default_rng(3).normal(size=(NUM_USERS, 1)).astype(np.float32)
    constants = np.random.default_rng(4).normal(size=NUM_USERS).astype(np.float32)
    start = np.ones([NUM_ITEMS, 1], np.float32), np.ones(NUM_ITEMS, np.float32)
    levels, scale = scores.fit_items(users, constants, *start, num_bits=1)
    weights = np.sqrt(dense_weights(scores))
    for item in range(NUM_ITEMS):
        targets = scores.users @ scores.items[item] - constants
        own = weights[:, item]
        (expected,) = np.linalg.lstsq(own[:, np.newaxis] * users, own * targets, rcond=None)[0]
        np.testing.assert_allclose(scale[item] * levels[item, 0], expected, rtol=1e-3, atol=1e-4)
