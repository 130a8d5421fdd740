"""In-batch softmax: the user's item among the items of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from tf_hqgnn.losses.loss import LOSSES, BatchContext, Loss, WeightedBatchContext
from tf_hqgnn.types import Float64Array

if TYPE_CHECKING:
    import tensorflow as tf


# A logit that adds nothing to a sum of exponentials, and has no gradient that isn't a number.
_NEVER = -1e9


class Coefficients(NamedTuple):
    """Numbers of the softmax loss, or scalar tensors.

    Args:
      temperature: As of `Softmax`, likewise the correction.
      popularity_correction: 0 for none.
      negative_weight: Of the negatives' part.
      counts_itself: Whether a pair's own item is in the sum.
      top_k_temperature: Infinite for none.
    """

    temperature: float | tf.Tensor
    popularity_correction: float | tf.Tensor
    negative_weight: float | tf.Tensor
    counts_itself: bool | tf.Tensor
    top_k_temperature: float | tf.Tensor = float("inf")


@LOSSES.register("softmax")
class Softmax(Loss):
    """Cross-entropy of each user's item among the items of the batch, by cosine over `temperature`.

        mean_b w_b (log sum_c exp(l_bc) - l_bb),    l_bc = cos(u_b, i_c) / temperature - popularity_correction log p_c

    p_c is the item's share of the training interactions (logQ correction): popular items are frequent negatives, and
    aren't pushed down for that alone. With `mask_positives` the sum leaves out other items that the user took as well.
    Where pairs have weights, w_b is the pair's, too, and a pair is as many negatives of the others as it weighs:
    exp(l_bc) is multiplied by the weight of pair c.

    Args:
      temperature: > 0.
      popularity_correction: 1 makes up for the sampling in full, 0 not at all.
      user_balance: w_b is (interactions of the user)^-this, scaled to a mean of 1.
      mask_positives: whether an item of the batch that the user took is no negative; else only the pair's own item.
      negative_weight: None for the formula above. A number r > 0 leaves the pair's own item out of the sum and weighs
        it: mean_b w_b (r log sum_{c != b} exp(l_bc) - l_bb). It is the ratio of the two temperatures of the bilateral
        softmax, where r > 1 pushes the hardest negatives further away.
      top_k_temperature: None for the formula above. A number t > 0 also weighs each pair by

            sigmoid((cos(u_b, i_b) - beta_b) / t),

        scaled to a mean of 1 over the batch: beta_b is the user's `top_k`-th best cosine of all items, found (of large
        catalogues by a sample) when an epoch begins. Items that are far from the user's best count less. No gradient
        goes through the weight.
      top_k: as above.

    Reference: Yi et al., RecSys 2019 (the correction); the cosine form as in SimpleX and SGL; Wu et al., ICDE 2024,
      "BSL: Understanding and Improving Softmax Loss for Recommendation" (`negative_weight`); Yang et al., KDD 2025,
      "Breaking the Top-K Barrier: Advancing Top-K Ranking Metrics Optimization in Recommender Systems" (SL@K,
      `top_k_temperature`).

    Example:
      >>> import tensorflow as tf
      >>> u, context = tf.eye(2), BatchContext(tf.eye(2, dtype=tf.bool), tf.zeros([2]), tf.ones([2]))
      >>> round(float(Softmax(temperature=1.0)(u, u, None, context)), 4)  # log(1 + e^-1)
      0.3133
    """

    needs_context: ClassVar[bool] = True

    temperature: float = Field(
        0.15,
        gt=0,
        description="softmax: divide scores by this temperature; the lower, the more the hardest negatives count.",
    )
    popularity_correction: float = Field(
        0.75, ge=0, description="softmax: subtract this number times log(item's share of all interactions) from scores."
    )
    user_balance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="softmax: divide a pair's weight by (interactions of its user)^this; 1 weighs all users the same.",
    )
    mask_positives: bool = Field(
        True,
        description="softmax: never take an item for a negative of a user who took it; false spares the pair's own "
        "item only.",
    )

    negative_weight: float | None = Field(
        None,
        gt=0,
        description="softmax: leave a pair's own item out of its negatives, and multiply their part of the loss by "
        "this number, as the loss BSL does; null is the plain softmax.",
    )

    top_k_temperature: float | None = Field(
        None,
        gt=0,
        description="softmax: weigh a pair by sigmoid((its cosine - the user's top_k-th best) / this), as the loss "
        "SL@K does; 0.25 helps on some logs of many items, null weighs all the same.",
    )
    top_k: int = Field(
        20, ge=1, description="softmax: with top_k_temperature, the rank of the score that pairs are compared with."
    )

    def __call__(
        self,
        users: tf.Tensor,
        items: tf.Tensor,
        negatives: tf.Tensor | None,
        context: BatchContext | WeightedBatchContext | None,
    ) -> tf.Tensor:
        """See `Loss`; reads no negatives."""
        import tensorflow as tf

        if context is None:
            raise ValueError("the softmax loss needs the BatchContext of the batch, got None")
        if context.threshold is None and self.threshold_rank:
            raise ValueError(
                "the softmax loss with top_k_temperature needs the threshold of each user of the batch, got None: "
                "train an HQGNN by fit(), or set BatchContext.threshold"
            )
        users, items = tf.math.l2_normalize(users, axis=1), tf.math.l2_normalize(items, axis=1)
        coefficients = self.coefficients()
        logits = tf.matmul(users, items, transpose_b=True) / coefficients.temperature
        logits -= coefficients.popularity_correction * context.log_popularity[tf.newaxis, :]
        own = tf.linalg.diag_part(logits)
        if context.pair_weight is not None:
            # A pair that weighs as much as several is as many negatives of the other users.
            logits += tf.math.log(context.pair_weight)[tf.newaxis, :]
            logits = tf.linalg.set_diag(logits, own)
        itself = tf.eye(tf.shape(users)[0], dtype=tf.bool)
        kept = tf.where(itself, coefficients.counts_itself, ~context.is_positive)
        pushed = coefficients.negative_weight * _log_sum_of_kept(logits, kept)
        weight = context.weight
        if context.threshold is not None:
            above = tf.reduce_sum(users * items, axis=1) - context.threshold
            closeness = tf.stop_gradient(tf.sigmoid(above / coefficients.top_k_temperature))
            weight *= closeness / tf.reduce_mean(closeness)
        return tf.reduce_mean(weight * (pushed - own))

    def coefficients(self) -> Coefficients:
        """What the formula is computed with; a subclass may have tensors that change from step to step."""
        ratio = self.negative_weight
        top_k = float("inf") if self.top_k_temperature is None else self.top_k_temperature
        return Coefficients(
            self.temperature, self.popularity_correction, 1.0 if ratio is None else ratio, ratio is None, top_k
        )

    def scores(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """See `Loss`."""
        return super().scores(users, items) / self.temperature

    @property
    def needs_positives(self) -> bool:
        """See `Loss`."""
        return self.mask_positives

    @property
    def threshold_rank(self) -> int:
        """See `Loss`."""
        return 0 if self.top_k_temperature is None else self.top_k

    def user_weight(self, counts: Float64Array) -> Float64Array:
        """counts^-user_balance, scaled so that the mean over all interactions is 1.

        Example:
          >>> Softmax(user_balance=1.0).user_weight(np.array([1.0, 3.0])).round(4).tolist()
          [2.0, 0.6667]
        """
        weight = np.maximum(counts, 1.0) ** -self.user_balance
        scaled: Float64Array = weight * (max(counts.sum(), 1.0) / max((weight * counts).sum(), 1.0))
        return scaled

    def default_ranges(self) -> dict[str, Mapping[str, Any]]:
        """See `Loss`."""
        return {
            "temperature": {"low": 0.05, "high": 0.3, "log": True},
            "popularity_correction": {"low": 0.0, "high": 1.0},
            "user_balance": {"low": 0.0, "high": 1.0},
        }

    def describe(self) -> str:
        """See `Loss`."""
        text = f"temperature {self.temperature:g}, popularity correction {self.popularity_correction:g}"
        if self.negative_weight is not None:
            text += f", negatives weigh {self.negative_weight:g}"
        if self.top_k_temperature is not None:
            text += f", the best {self.top_k} weigh more (temperature {self.top_k_temperature:g})"
        return text


def _log_sum_of_kept(logits: tf.Tensor, is_kept: tf.Tensor) -> tf.Tensor:
    """float32 [B]: the log of the sum of exponentials of what is kept of each row; 0 where nothing is."""
    import tensorflow as tf

    total = tf.reduce_logsumexp(tf.where(is_kept, logits, _NEVER), axis=1)
    return tf.where(tf.reduce_any(is_kept, axis=1), total, 0.0)
