"""The trace of a loss's Hessian, and the delta of the gradient estimator that follows from it."""

from __future__ import annotations

from typing import Callable, NamedTuple

import tensorflow as tf

from tf_hqgnn.quantization.estimators import bounded_delta


class TraceEstimate(NamedTuple):
    """What `hutchinson_trace` found.

    Args:
      trace: float [], the mean over probes.
      standard_error: float [], of that mean, as estimated from the probes; 0 if all agree.
      num_probes: int32 [], the probes that were made.
    """

    trace: tf.Tensor
    standard_error: tf.Tensor
    num_probes: tf.Tensor


def hutchinson_trace(
    loss: Callable[[tf.Tensor], tf.Tensor],
    x: tf.Tensor,
    *,
    num_probes: int = 50,
    tolerance: float = 0.05,
    seed: int | tf.Tensor = 0,
    row_mask: tf.Tensor | None = None,
) -> TraceEstimate:
    """The trace of the Hessian of any scalar loss at `x`, from Hessian-vector products with random signs.

        Tr(H) = E[v' H v],  v Rademacher;  H v = d/dx (v . dL/dx), by double backpropagation.

    Probes are made until the standard error of their mean is at most `tolerance * |mean|`: the absolute value, since a
    trace can be negative. Works eagerly, in a tf.function, and under XLA.

    Args:
      loss: float [...] -> float []; twice differentiable by TensorFlow. The quantized rows are its argument, and it
        doesn't quantize itself: past a rounding, a second derivative is one of the estimator, not of the loss.
      x: float [n, d] (any shape without `row_mask`).
      num_probes: The most probes, >= 2.
      tolerance: Relative, >= 0; 0 always makes all probes, unless they agree exactly.
      seed: Of the signs; pass the step to get others every time.
      row_mask: bool [n], the rows to sum the diagonal over, None for all. For a table, that the batch left most rows of
        alone, the rest has no curvature anyway; better gather the touched rows, and pass those as `x`.

    Returns:
      A `TraceEstimate`.

    Raises:
      ValueError: num_probes < 2, or tolerance < 0.

    Reference:
      Hutchinson 1990. EWGS (CVPR 2021), of which HQ-GNN takes it, stops when the running mean has changed by less than
      1e-3 of its signed value: true at once where that is negative, and by chance after two probes that are alike.

    >>> estimate = hutchinson_trace(lambda x: tf.reduce_sum(x**2), tf.zeros([3, 4]))
    >>> float(estimate.trace), int(estimate.num_probes)  # a diagonal Hessian: every probe is exact
    (24.0, 2)
    """
    return hutchinson_diagonal(loss, x, num_probes=num_probes, tolerance=tolerance, seed=seed, row_mask=row_mask)[0]


def hutchinson_diagonal(
    loss: Callable[[tf.Tensor], tf.Tensor],
    x: tf.Tensor,
    *,
    num_probes: int = 50,
    tolerance: float = 0.05,
    seed: int | tf.Tensor = 0,
    row_mask: tf.Tensor | None = None,
) -> tuple[TraceEstimate, tf.Tensor]:
    """The same estimate of the trace, and of the diagonal that adds up to it: the mean over probes of `v (H v)`.

    The diagonal's elements are each noisier than the trace, for which alone probes are made.

    Args:
      loss: See `hutchinson_trace`.
      x: See `hutchinson_trace`.
      num_probes: See `hutchinson_trace`.
      tolerance: See `hutchinson_trace`.
      seed: See `hutchinson_trace`.
      row_mask: See `hutchinson_trace`.

    Returns:
      The `TraceEstimate`, and the diagonal with the shape of `x`.

    Raises:
      ValueError: As `hutchinson_trace`.

    >>> hutchinson_diagonal(lambda x: tf.reduce_sum([1.0, 2.0] * x**2), tf.zeros([1, 2]))[1].numpy().tolist()
    [[2.0, 4.0]]
    """
    if num_probes < 2:
        raise ValueError(f"num_probes must be at least 2 (for a standard error), got {num_probes}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be >= 0, got {tolerance}")
    x = tf.convert_to_tensor(x)
    mask = None if row_mask is None else tf.cast(row_mask, x.dtype)[:, tf.newaxis]

    def probe(number: tf.Tensor) -> tf.Tensor:
        key = tf.stack([tf.cast(seed, tf.int32), number])
        v = tf.cast(tf.random.stateless_uniform(tf.shape(x), key, 0, 2, tf.int32) * 2 - 1, x.dtype)
        if mask is not None:
            v *= mask
        return v * hessian_vector_product(loss, x, v)

    def unfinished(number: tf.Tensor, mean: tf.Tensor, squares: tf.Tensor, diagonal: tf.Tensor) -> tf.Tensor:
        del diagonal
        return (number < 2) | (_standard_error(squares, number) > tolerance * tf.abs(mean))

    def body(number: tf.Tensor, mean: tf.Tensor, squares: tf.Tensor, diagonal: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # Welford's running mean and sum of squared deviations: the mean of squares would cancel in float32.
        values, count = probe(number), tf.cast(number + 1, x.dtype)
        value = tf.reduce_sum(values)
        new_mean = mean + (value - mean) / count
        new_squares = squares + (value - mean) * (value - new_mean)
        return number + 1, new_mean, new_squares, diagonal + (values - diagonal) / count

    zero = tf.zeros([], x.dtype)
    start = (tf.constant(0), zero, zero, tf.zeros_like(x))
    number, mean, squares, diagonal = tf.while_loop(
        unfinished, body, start, maximum_iterations=num_probes, parallel_iterations=1
    )
    return TraceEstimate(mean, _standard_error(squares, number), number), diagonal


def hessian_vector_product(loss: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """`H v` of a scalar loss at `x`, with the shape of `x`; zeros where the loss is linear or doesn't depend on `x`."""
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            value = loss(x)
        # A loss that gathers rows has a sparse gradient; the second derivative wants a tensor.
        gradient = tf.convert_to_tensor(inner.gradient(value, x, unconnected_gradients="zero"))
    product = outer.gradient(gradient, x, output_gradients=v, unconnected_gradients="zero")
    return tf.convert_to_tensor(product)


def touched_rows(gradients: tf.Tensor) -> tf.Tensor:
    """Which rows of a table the batch had an effect on: bool [n], whether a row's gradient isn't all zero."""
    return tf.reduce_any(tf.not_equal(tf.convert_to_tensor(gradients), 0.0), axis=1)


def gste_delta(hessian_trace: tf.Tensor | float, gradients: tf.Tensor, num_bits: int) -> tf.Tensor:
    """How much GSTE bends a gradient: the mean curvature, relative to the size of the gradients.

        delta = max(0, (Tr(H) / N) / (3 std(g))),  at most `estimators.max_delta`

    Never NaN and never infinite: 0 without a touched row, and where the trace or a gradient isn't finite; the bound
    where gradients don't vary.

    Args:
      hessian_trace: float [], Tr(H) with respect to x_q, the quantized values on the scale 0 .. 1.
      gradients: float [n, d], g with respect to the same. N and std(g) are over the touched rows: with the untouched
        rows of a table, delta would shrink with the square root of the touched fraction.
      num_bits: 1 to 8, for the bound.

    Returns:
      float32 [].

    Reference:
      HQ-GNN, arXiv 2309.01032; the guards, the bound and the touched rows are ours.

    >>> g = tf.constant([[1.0, -1.0], [0.0, 0.0]])  # one touched row: N = 2, std 1
    >>> float(gste_delta(3.0, g, num_bits=1))
    0.5
    """
    gradients = tf.cast(tf.convert_to_tensor(gradients), tf.float32)
    trace = tf.cast(hessian_trace, tf.float32)
    weights = tf.broadcast_to(tf.cast(touched_rows(gradients), tf.float32)[:, tf.newaxis], tf.shape(gradients))
    size = tf.reduce_sum(weights)
    # Divided by the largest, squares of the gradients neither overflow nor vanish.
    largest = tf.maximum(tf.reduce_max(tf.abs(gradients)), 0.0)  # of no rows, it is -infinity
    g = tf.math.divide_no_nan(gradients, largest)
    mean = tf.math.divide_no_nan(tf.reduce_sum(g), size)
    variance = tf.math.divide_no_nan(tf.reduce_sum(weights * tf.square(g - mean)), size)
    std = largest * tf.sqrt(variance)
    # The smallest normal number: a product with anything below would be 0, and the quotient NaN.
    delta = tf.math.divide_no_nan(trace, size) / (3.0 * std + 1.2e-38)
    finite = tf.math.is_finite(trace) & tf.math.is_finite(std) & (size > 0)
    delta = tf.minimum(delta, 1e30)
    return bounded_delta(tf.where(finite, delta, 0.0), num_bits)


def _standard_error(squares: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    number = tf.cast(number, squares.dtype)
    return tf.sqrt(squares / tf.maximum((number - 1.0) * number, 1.0))
