"""dh/dt = A h + e by TensorFlow Probability's Dormand-Prince 5(4), which picks its own steps."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tf_hqgnn.graph.propagation import Adjacency
from tf_hqgnn.ode.vector_field import GraphVectorField


class AdaptiveSolution(NamedTuple):
    """h(t1) and what it cost."""

    h: tf.Tensor
    num_evaluations: tf.Tensor


def solve_adaptive(adjacency: Adjacency, e: tf.Tensor, t1: float, tolerance: float) -> AdaptiveSolution:
    """h(t1) of dh/dt = A h + e with h(0) = `e`; the local error of each step is kept within `tolerance`.

    Dormand-Prince estimates its error, it doesn't bound it: `solve_exact` does, and takes fewer products. This is here
    to check it against, and for vector fields without a series.

    Args:
      adjacency: A, over n nodes.
      e: [n, d] of the adjacency's dtype.
      t1: > 0.
      tolerance: Of the root mean square over all entries, relative to that of h, and to that of `e` where h is small.

    Returns:
      `h` [n, d], and the int32 number of evaluations of the field, each of one sparse product.

    Raises:
      tf.errors.InvalidArgumentError: `e` holds NaN or infinity.
    """
    # Imported here since it takes a second, and only this solver needs it.
    import tensorflow_probability as tfp

    # Solved for embeddings of size 1, which the equation allows since it is linear, so that one tolerance serves as the
    # relative and the absolute one. NaN would be tried again with ever smaller steps, without end.
    size = tf.debugging.check_numerics(tf.sqrt(tf.reduce_mean(tf.square(e))), "the embeddings hold NaN or infinity")
    size = tf.stop_gradient(tf.where(size > 0, size, tf.ones_like(size)))
    unit = e / size
    # e is passed as a constant of the ODE since the adjoint gradient can't see what a function captures.
    results = tfp.math.ode.DormandPrince(rtol=tolerance, atol=tolerance).solve(
        lambda t, h, e: GraphVectorField(adjacency, e)(t, h),
        initial_time=tf.zeros([], e.dtype),
        initial_state=unit,
        solution_times=tf.constant([t1], e.dtype),
        constants={"e": unit},
    )
    return AdaptiveSolution(size * results.states[-1], results.diagnostics.num_ode_fn_evaluations)
