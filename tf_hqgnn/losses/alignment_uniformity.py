"""Alignment and uniformity: the loss of DirectAU and LightGODE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tf_hqgnn.losses.loss import LOSSES, BatchContext, Loss, WeightedBatchContext

if TYPE_CHECKING:
    import tensorflow as tf


def uniformity(x: tf.Tensor, weight: tf.Tensor | None = None) -> tf.Tensor:
    """`log mean_{a<b} exp(-2 |x_a - x_b|^2)` over the rows of a batch: low when they spread over the sphere.

    Args:
      x: float32 [B, d] with rows of unit length, B >= 2.
      weight: float32 [B], which makes the mean one over a and b with the weights w_a w_b; None for 1.

    Returns:
      float32 [].

    Reference: Wang and Isola, ICML 2020, as used by LightGODE (arXiv 2407.18910), eq. 5.

    Example:
      >>> import tensorflow as tf
      >>> round(float(uniformity(tf.eye(2))), 4)  # at a distance of sqrt 2
      -4.0
    """
    import tensorflow as tf

    similarity = tf.matmul(x, x, transpose_b=True)
    # |a - b|^2 = 2 - 2 a.b on the sphere; a pair with itself is not a pair.
    kernel = tf.linalg.set_diag(tf.exp(4.0 * similarity - 4.0), tf.zeros_like(similarity[:, 0]))
    if weight is not None:
        both = weight[:, tf.newaxis] * weight[tf.newaxis, :]
        total = tf.square(tf.reduce_sum(weight)) - tf.reduce_sum(tf.square(weight))
        return tf.math.log(tf.reduce_sum(kernel * both) / total)
    size = tf.cast(tf.shape(x)[0], x.dtype)
    return tf.math.log(tf.reduce_sum(kernel) / (size * (size - 1.0)))


@LOSSES.register("alignment_uniformity")
class AlignmentUniformity(Loss):
    """`mean |u - i|^2 + gamma (U(u) + U(i)) / 2` of rows scaled to unit length, U being `uniformity`.

    Args:
      gamma: weight of uniformity; its best value depends on the batch size.

    Reference: DirectAU, KDD 2022, and LightGODE (arXiv 2407.18910), eq. 4-6.

    Example:
      >>> import tensorflow as tf
      >>> u = tf.constant([[1.0, 0.0], [0.0, 1.0]])
      >>> round(float(AlignmentUniformity(gamma=1.0)(u, u)), 4)  # aligned: 0, at a distance of sqrt 2: log e^-4
      -4.0
    """

    gamma: float = Field(0.5, ge=0, description="alignment_uniformity: the weight of uniformity.")

    def __call__(
        self,
        users: tf.Tensor,
        items: tf.Tensor,
        negatives: tf.Tensor | None = None,
        context: BatchContext | WeightedBatchContext | None = None,
    ) -> tf.Tensor:
        """See `Loss`; reads no negatives, and of the context the weights alone."""
        import tensorflow as tf

        users, items = tf.math.l2_normalize(users, axis=1), tf.math.l2_normalize(items, axis=1)
        distances = tf.reduce_sum(tf.math.squared_difference(users, items), axis=1)
        weight = None if context is None else context.weight
        alignment = tf.reduce_mean(distances if weight is None else distances * weight)
        return alignment + self.gamma * (uniformity(users, weight) + uniformity(items, weight)) / 2.0

    def default_ranges(self) -> dict[str, Mapping[str, Any]]:
        """See `Loss`."""
        return {"gamma": {"low": 0.1, "high": 3.0, "log": True}}

    def describe(self) -> str:
        """See `Loss`."""
        return f"gamma {self.gamma:g}"
