"""BPR: the user's item scores higher than an item drawn at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tf_hqgnn.losses.loss import LOSSES, BatchContext, Loss, WeightedBatchContext

if TYPE_CHECKING:
    import tensorflow as tf


@LOSSES.register("bpr")
class BPR(Loss):
    """`-mean log sigmoid(u.i - u.j)` over every negative j of every pair, times the pair's weight where it has one.

    Args:
      num_negatives: n, uniform negatives per pair.

    Reference: Rendle et al., UAI 2009.

    Example:
      >>> import tensorflow as tf
      >>> zero = tf.zeros([3, 2])
      >>> round(float(BPR()(zero, zero, tf.zeros([3, 1, 2]))), 4)  # log 2
      0.6931
    """

    reads_lengths: ClassVar[bool] = True
    exact_trace: ClassVar[bool] = True

    num_negatives: int = Field(1, ge=1, description="bpr: random negatives per pair.")

    def __call__(
        self,
        users: tf.Tensor,
        items: tf.Tensor,
        negatives: tf.Tensor | None,
        context: BatchContext | WeightedBatchContext | None = None,
    ) -> tf.Tensor:
        """See `Loss`; of the context it reads the weights alone."""
        import tensorflow as tf

        if negatives is None:
            raise ValueError("the bpr loss needs negative rows [B, n, d], got None")
        positive = tf.reduce_sum(users * items, axis=1, keepdims=True)
        negative = tf.einsum("bd,bnd->bn", users, negatives)
        terms = tf.math.softplus(negative - positive)
        return tf.reduce_mean(terms if context is None else terms * context.weight[:, tf.newaxis])

    @property
    def negatives_per_pair(self) -> int:
        """See `Loss`."""
        return self.num_negatives

    def hessian_traces(
        self, users: tf.Tensor, items: tf.Tensor, negatives: tf.Tensor | None, weight: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The trace of the Hessian, exact: the part of the user rows, and that of the item rows.

        With `x_t = u.(i - j)`, `s_t = sigmoid(x_t)` and the loss `-mean_t log s_t` over T = B n triples,

            Tr_users = (1/T) sum_t s_t (1 - s_t) |i - j|^2,    Tr_items = (1/T) sum_t s_t (1 - s_t) 2 |u|^2.

        The diagonal adds up over triples, so this is the trace with respect to the tables as well, however often a row
        occurs, if no item is its own negative.

        Args:
          users: float32 [B, d], the quantized rows that were scored.
          items: float32 [B, d].
          negatives: float32 [B, n, d].
          weight: float32 [B], by which the terms of each pair are multiplied; None for 1.

        Returns:
          float32 [] and [], >= 0; 0 for no triples.

        Raises:
          ValueError: There are no negatives.

        Reference: Derived for this project; HQ-GNN (arXiv 2309.01032) estimates it by probes.

        Example:
          >>> import tensorflow as tf
          >>> u, i, j = tf.constant([[1.0, 1.0]]), tf.constant([[2.0, 0.0]]), tf.constant([[[0.0, 2.0]]])
          >>> [float(trace) for trace in BPR().hessian_traces(u, i, j)]  # x = 0, so a quarter of 8 and of 2 * 2
          [2.0, 1.0]
        """
        import tensorflow as tf

        if negatives is None:
            raise ValueError("the bpr loss needs negative rows [B, n, d], got None")
        differences = items[:, tf.newaxis, :] - negatives
        s = tf.sigmoid(tf.einsum("bd,bmd->bm", users, differences))
        curvature = s * (1.0 - s)
        if weight is not None:
            curvature *= weight[:, tf.newaxis]
        per_user = curvature * tf.reduce_sum(tf.square(differences), axis=2)
        per_item = curvature * 2.0 * tf.reduce_sum(tf.square(users), axis=1, keepdims=True)
        num_triples = tf.cast(tf.size(curvature), users.dtype)
        return (
            tf.math.divide_no_nan(tf.reduce_sum(per_user), num_triples),
            tf.math.divide_no_nan(tf.reduce_sum(per_item), num_triples),
        )

    def describe(self) -> str:
        """See `Loss`."""
        return f"{self.num_negatives} negative{'s' if self.num_negatives > 1 else ''} a pair"
