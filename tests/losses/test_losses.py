"""Losses against NumPy, by hand, and under XLA."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.losses.alignment_uniformity import AlignmentUniformity, uniformity
from tf_hqgnn.losses.bpr import BPR
from tf_hqgnn.losses.loss import LOSSES, BatchContext, make_loss
from tf_hqgnn.losses.softmax import Softmax


def rows(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_uniformity_is_that_of_all_pairs():
    x = unit(rows(7, 5))
    distances = [np.sum((x[a] - x[b]) ** 2) for a in range(7) for b in range(a + 1, 7)]
    expected = np.log(np.mean(np.exp(-2 * np.array(distances))))
    np.testing.assert_allclose(uniformity(tf.constant(x)), expected, rtol=1e-5)


def test_alignment_uniformity():
    u, i = rows(6, 4), rows(6, 4, seed=1)
    align = np.mean(np.sum((unit(u) - unit(i)) ** 2, axis=1))
    spread = float(uniformity(tf.constant(unit(u))) + uniformity(tf.constant(unit(i))))
    np.testing.assert_allclose(AlignmentUniformity(gamma=3.0)(u, i), align + 1.5 * spread, rtol=1e-5)


def test_bpr_averages_over_negatives():
    u, i, j = rows(5, 3), rows(5, 3, seed=1), rows(5, 2, 3, seed=2)
    x = np.einsum("bd,bd->b", u, i)[:, None] - np.einsum("bd,bnd->bn", u, j)
    np.testing.assert_allclose(BPR(num_negatives=2)(u, i, j), np.mean(np.log1p(np.exp(-x))), rtol=1e-5)


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
    return BatchContext(
        random.random((size, size)) < 0.3,
        np.log(random.uniform(0.1, 1.0, size)).astype(np.float32),
        random.uniform(0.5, 2.0, size).astype(np.float32),
    )


@pytest.mark.parametrize("correction", [0.0, 0.75])
def test_in_batch_softmax_masks_positives_corrects_popularity_and_weighs_pairs(correction):
    u, i, context = rows(6, 4), rows(6, 4, seed=1), batch_context(6)
    expected = softmax_oracle(u, i, context, 0.2, correction)
    np.testing.assert_allclose(
        Softmax(temperature=0.2, popularity_correction=correction)(u, i, None, context), expected, rtol=1e-5
    )


@pytest.mark.parametrize("ratio", [1.0, 1.3])
def test_bilateral_softmax_leaves_the_positive_out_of_the_sum(ratio):
    u, i, context = unit(rows(6, 4)), unit(rows(6, 4, seed=1)), batch_context(6)
    # The first user took every item of the batch: nothing is pushed away.
    context.is_positive[0] = True
    expected = 0.0
    for a in range(6):
        logits = [u[a] @ i[b] / 0.2 - 0.5 * context.log_popularity[b] for b in range(6)]
        pushed = [logits[b] for b in range(6) if b != a and not context.is_positive[a, b]]
        expected += context.weight[a] * ((ratio * np.log(np.exp(pushed).sum()) if pushed else 0) - logits[a]) / 6
    loss = Softmax(temperature=0.2, popularity_correction=0.5, negative_weight=ratio)
    users = tf.constant(u)
    with tf.GradientTape() as tape:
        tape.watch(users)
        value = loss(users, tf.constant(i), None, context)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert np.isfinite(tape.gradient(value, users)).all()


@pytest.mark.parametrize(
    "settings", [*({"name": name} for name in LOSSES.names()), {"top_k_temperature": 0.4}], ids=str
)
def test_xla_gives_the_same_value_and_gradient(settings):
    loss = make_loss(**{"name": "softmax"} | settings)
    u, i, j = (tf.constant(rows(8, 4, seed=s)) for s in range(3))
    context = BatchContext(*(tf.constant(values) for values in batch_context(8) if values is not None))
    if loss.threshold_rank:
        context = context._replace(threshold=tf.linspace(-0.5, 0.5, 8))
    arguments = (i, j[:, None, :] if loss.needs_negatives else None, context if loss.needs_context else None)

    def value_and_gradient(u):
        with tf.GradientTape() as tape:
            tape.watch(u)
            value = loss(u, *arguments)
        return value, tape.gradient(value, u)

    eager = value_and_gradient(u)
    compiled = tf.function(value_and_gradient, jit_compile=True)(u)
    for a, b in zip(eager, compiled):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_bpr_without_negatives_says_what_is_missing():
    with pytest.raises(ValueError, match=r"bpr loss needs negative rows \[B, n, d\], got None"):
        BPR()(rows(2, 2), rows(2, 2), None)


def test_softmax_without_context_says_what_is_missing():
    with pytest.raises(ValueError, match="softmax loss needs the BatchContext of the batch, got None"):
        Softmax()(rows(2, 2), rows(2, 2), None, None)


def test_a_loss_without_an_exact_trace_says_so():
    assert [name for name in LOSSES.names() if LOSSES[name].exact_trace] == ["bpr"]
    with pytest.raises(ValueError, match="loss softmax has no exact Hessian trace"):
        Softmax().hessian_traces(rows(2, 2), rows(2, 2), None)


def test_bpr_without_negatives_has_no_trace():
    with pytest.raises(ValueError, match=r"bpr loss needs negative rows \[B, n, d\], got None"):
        BPR().hessian_traces(rows(2, 2), rows(2, 2), None)


@pytest.mark.parametrize(
    ("loss", "negatives", "positives", "context", "lengths"),
    [
        (AlignmentUniformity(), 0, False, False, False),
        (BPR(num_negatives=3), 3, False, False, True),
        (Softmax(), 0, True, True, False),
        (Softmax(mask_positives=False), 0, False, True, False),
    ],
)
def test_losses_say_what_they_need(loss, negatives, positives, context, lengths):
    assert (loss.negatives_per_pair, loss.needs_negatives) == (negatives, negatives > 0)
    assert (loss.needs_positives, loss.needs_context, loss.reads_lengths) == (positives, context, lengths)


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (AlignmentUniformity(gamma=2), "gamma 2"),
        (BPR(), "1 negative a pair"),
        (BPR(num_negatives=3), "3 negatives a pair"),
        (Softmax(), "temperature 0.15, popularity correction 0.75"),
    ],
)
def test_losses_describe_themselves(loss, text):
    assert loss.describe() == text


@pytest.mark.parametrize("name", LOSSES.names())
def test_a_loss_is_made_again_from_its_config(name):
    loss = make_loss(name)
    assert loss.get_config()["name"] == name
    assert make_loss(**loss.get_config()) == loss


@pytest.mark.parametrize("name", LOSSES.names())
def test_default_ranges_are_of_the_losss_own_settings(name):
    loss = make_loss(name)
    for setting, values in loss.default_ranges().items():
        assert setting in type(loss).model_fields
        assert values["low"] < values["high"]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("hinge", {}, "unknown loss 'hinge': expected one of alignment_uniformity, bpr, softmax"),
        ("softmax", {"temperature": 0}, "^loss softmax: temperature: Input should be greater than 0, got 0$"),
        ("bpr", {"temperature": 1}, "^loss bpr: temperature: Extra inputs are not permitted, got 1$"),
    ],
)
def test_an_unknown_loss_or_setting_is_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        make_loss(name, **settings)


def test_pairs_weigh_the_same_unless_users_are_balanced():
    counts = np.array([1.0, 2.0, 4.0, 0.0])
    np.testing.assert_array_equal(BPR().user_weight(counts), np.ones(4))
    np.testing.assert_array_equal(Softmax().user_weight(counts), np.ones(4))
    weight = Softmax(user_balance=1.0).user_weight(counts)
    np.testing.assert_allclose(weight, np.array([1, 1 / 2, 1 / 4, 1]) * 7 / 3)


@pytest.mark.integration
def test_the_settings_of_losses_are_read_without_tensorflow():
    code = "import sys; from tf_hqgnn.config import Config; Config().loss.make(); print('tensorflow' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr
