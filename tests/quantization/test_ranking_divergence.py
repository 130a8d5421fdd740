import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.quantization.hessian import hutchinson_diagonal, hutchinson_trace
from tf_hqgnn.quantization.ranking_divergence import (
    MASKED,
    order_logits,
    ranking_divergence,
    ranking_divergence_diagonals,
    ranking_divergence_traces,
)

NUM_USERS, NUM_ITEMS, DIM = 3, 5, 2


@pytest.fixture
def batch():
    """Users, items, a teacher that masks two pairs, temperatures, and items that stand for several."""
    random = np.random.default_rng(0)
    users, items = random.normal(size=(NUM_USERS, DIM)), random.normal(size=(NUM_ITEMS, DIM))
    teacher = random.normal(size=(NUM_USERS, NUM_ITEMS))
    teacher[0, 1] = teacher[2, 4] = MASKED
    arrays = users, items, teacher, np.array([0.5, 1.0, 2.0]), np.log([1.0, 1.0, 1.0, 3.0, 3.0])
    return [tf.constant(array, tf.float32) for array in arrays]


def divergence_by_hand(users, items, teacher, temperature, log_weights):
    total = 0.0
    for user, logits, t in zip(users, teacher, temperature):
        ranked = [i for i in range(len(items)) if logits[i] > MASKED / 2]
        p = np.array([np.exp(logits[i] + log_weights[i]) for i in ranked])
        q = np.array([np.exp(user @ items[i] / t + log_weights[i]) for i in ranked])
        p, q = p / p.sum(), q / q.sum()
        total += (p * np.log(p / q)).sum()
    return total / len(users)


def test_divergence_by_hand(batch):
    expected = divergence_by_hand(*(tensor.numpy().astype(np.float64) for tensor in batch))
    assert expected > 0.1
    np.testing.assert_allclose(ranking_divergence(*batch), expected, rtol=1e-5)


def test_no_divergence_from_itself_and_no_gradient_at_masked_pairs(batch):
    users, items, _, temperature, log_weights = batch
    teacher = tf.matmul(users / temperature[:, tf.newaxis], items, transpose_b=True)
    np.testing.assert_allclose(ranking_divergence(users, items, teacher, temperature, log_weights), 0, atol=1e-6)
    masked = tf.where(tf.range(NUM_ITEMS) == 2, MASKED, teacher)
    moved = tf.Variable(items + 1.0)
    with tf.GradientTape() as tape:
        loss = ranking_divergence(users, moved, masked, temperature)
    assert not tape.gradient(loss, moved)[2].numpy().any()


def test_a_user_without_any_item_to_rank_adds_nothing(batch):
    users, items, _, temperature, _ = batch
    nothing = tf.fill([NUM_USERS, NUM_ITEMS], MASKED)
    assert float(ranking_divergence(users, items, nothing, temperature)) == 0


def losses(batch):
    users, items, *target = batch
    return (lambda x: ranking_divergence(x, items, *target)), (lambda x: ranking_divergence(users, x, *target))


def explicit_diagonal(loss, x):
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            value = loss(x)
        gradient = inner.gradient(value, x)
    hessian = outer.jacobian(gradient, x, experimental_use_pfor=False).numpy().reshape(2 * [int(tf.size(x))])
    return np.diag(hessian).reshape(x.shape)


def test_diagonals_and_traces_are_those_of_the_explicit_hessians(batch):
    found = zip(losses(batch), batch, ranking_divergence_diagonals(*batch), ranking_divergence_traces(*batch))
    for loss, x, diagonal, trace in found:
        expected = explicit_diagonal(loss, x)
        np.testing.assert_allclose(diagonal, expected, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(trace, expected.sum(), rtol=1e-4)


def test_diagonals_agree_with_hutchinson(batch):
    for loss, x, exact in zip(losses(batch), batch, ranking_divergence_diagonals(*batch)):
        estimate, diagonal = hutchinson_diagonal(loss, x, num_probes=300, tolerance=0.0)
        np.testing.assert_allclose(tf.reduce_sum(diagonal), estimate.trace, rtol=1e-4)
        assert np.corrcoef(np.ravel(diagonal), np.ravel(exact))[0, 1] > 0.9


def test_the_order_of_the_first_k_weighs_as_ndcg_does(batch):
    teacher = batch[2]
    logits = order_logits(teacher, k=2)
    np.testing.assert_array_equal(logits == MASKED, teacher == MASKED)
    gains = np.zeros((NUM_USERS, NUM_ITEMS))
    for row, values in enumerate(teacher.numpy()):
        gains[row, np.argsort(-values)[:2]] = 1 / np.log2([2, 3])
    np.testing.assert_allclose(tf.nn.softmax(logits), gains / gains.sum(axis=1, keepdims=True), atol=1e-6)
    # Scores that keep the order may be anything else.
    np.testing.assert_array_equal(order_logits(tf.where(teacher == MASKED, MASKED, 3 * teacher + 1), k=2), logits)
    assert np.isfinite(order_logits(teacher, k=99)).all()
    assert np.isfinite(ranking_divergence(batch[0], batch[1], logits, *batch[3:]))


def test_traces_agree_with_hutchinson(batch):
    for loss, x, trace in zip(losses(batch), batch, ranking_divergence_traces(*batch)):
        estimate = hutchinson_trace(loss, x, num_probes=100, tolerance=0.0)
        assert float(estimate.standard_error) < 0.2 * float(trace)
        assert abs(float(estimate.trace) - float(trace)) < 4 * float(estimate.standard_error) + 1e-5
