"""Losses against NumPy, by hand, and under XLA."""

import doctest

import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.config import LossConfig
from tf_hqgnn.losses import batch_losses as losses


def rows(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_doctests():
    results = doctest.testmod(losses)
    assert results.attempted >= 4
    assert results.failed == 0


def test_uniformity_is_that_of_all_pairs():
    x = unit(rows(7, 5))
    distances = [np.sum((x[a] - x[b]) ** 2) for a in range(7) for b in range(a + 1, 7)]
    expected = np.log(np.mean(np.exp(-2 * np.array(distances))))
    np.testing.assert_allclose(losses.uniformity(tf.constant(x)), expected, rtol=1e-5)


def test_alignment_uniformity():
    u, i = rows(6, 4), rows(6, 4, seed=1)
    align = np.mean(np.sum((unit(u) - unit(i)) ** 2, axis=1))
    spread = float(losses.uniformity(tf.constant(unit(u))) + losses.uniformity(tf.constant(unit(i))))
    np.testing.assert_allclose(losses.alignment_uniformity(u, i, gamma=3.0), align + 1.5 * spread, rtol=1e-5)


def test_bpr_averages_over_negatives():
    u, i, j = rows(5, 3), rows(5, 3, seed=1), rows(5, 2, 3, seed=2)
    x = np.einsum("bd,bd->b", u, i)[:, None] - np.einsum("bd,bnd->bn", u, j)
    np.testing.assert_allclose(losses.bpr(u, i, j), np.mean(np.log1p(np.exp(-x))), rtol=1e-5)


def softmax_oracle(u, i, context, temperature, correction):
    u, i = unit(u), unit(i)
    total = 0.0
    for a in range(len(u)):
        kept = [b for b in range(len(u)) if b == a or not context.is_positive[a, b]]
        logits = np.array([u[a] @ i[b] / temperature - correction * context.log_popularity[b] for b in kept])
        total += context.weight[a] * (np.log(np.exp(logits).sum()) - logits[kept.index(a)])
    return total / len(u)


def batch_context(size, seed=0):
    random = np.random.default_rng(seed)
    return losses.BatchContext(
        random.random((size, size)) < 0.3,
        np.log(random.uniform(0.1, 1.0, size)).astype(np.float32),
        random.uniform(0.5, 2.0, size).astype(np.float32),
    )


@pytest.mark.parametrize("correction", [0.0, 0.75])
def test_in_batch_softmax_masks_positives_corrects_popularity_and_weighs_pairs(correction):
    u, i, context = rows(6, 4), rows(6, 4, seed=1), batch_context(6)
    expected = softmax_oracle(u, i, context, 0.2, correction)
    np.testing.assert_allclose(losses.in_batch_softmax(u, i, context, 0.2, correction), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["alignment_uniformity", "bpr", "softmax"])
def test_xla_gives_the_same_value_and_gradient(name):
    loss = losses.make_loss(LossConfig(name=name, weight_decay=0.1, popularity_correction=0.5))
    u, i, j = (tf.constant(rows(8, 4, seed=s)) for s in range(3))
    context = losses.BatchContext(*(tf.constant(values) for values in batch_context(8)))
    arguments = (i, j[:, None, :] if name == "bpr" else None, context)

    def value_and_gradient(u):
        with tf.GradientTape() as tape:
            tape.watch(u)
            value = loss(u, *arguments)
        return value, tape.gradient(value, u)

    eager = value_and_gradient(u)
    compiled = tf.function(value_and_gradient, jit_compile=True)(u)
    for a, b in zip(eager, compiled):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_weight_decay_is_the_mean_square_norm_of_the_batch():
    u, i, j = rows(4, 3), rows(4, 3, seed=1), rows(4, 1, 3, seed=2)
    plain = losses.make_loss(LossConfig(name="bpr"))(u, i, j, None)
    decayed = losses.make_loss(LossConfig(name="bpr", weight_decay=0.5))(u, i, j, None)
    expected = 0.5 * (np.sum(u**2) + np.sum(i**2) + np.sum(j**2)) / (2 * 4)
    np.testing.assert_allclose(decayed - plain, expected, rtol=1e-4)


def test_bpr_without_negatives_says_what_is_missing():
    with pytest.raises(ValueError, match=r"bpr loss needs negative rows \[B, n, d\], got None"):
        losses.make_loss(LossConfig(name="bpr"))(rows(2, 2), rows(2, 2), None, None)


def test_softmax_without_context_says_what_is_missing():
    with pytest.raises(ValueError, match="softmax loss needs the BatchContext of the batch, got None"):
        losses.make_loss(LossConfig(name="softmax"))(rows(2, 2), rows(2, 2), None, None)
