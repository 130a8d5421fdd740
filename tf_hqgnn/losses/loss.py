"""What every loss has in common, and the registry of losses.

Losses are settings, too: this module and those of the losses are imported without TensorFlow, which takes seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from tf_hqgnn.types import Float64Array, Registry

if TYPE_CHECKING:
    import tensorflow as tf


class BatchContext(NamedTuple):
    """What a loss can know of a batch of B pairs besides its rows.

    Args:
      is_positive: bool [B, B], whether the user of a row took the item of a column; True on the diagonal.
      log_popularity: float32 [B], log of each item's share of the training interactions.
      weight: float32 [B], of each pair, see `Loss.user_weight`.
      threshold: float32 [B], of each user, see `Loss.threshold_rank`; None where no loss asks for it.

    Attributes:
      pair_weight: None: all pairs weigh the same in the log.

    >>> import tensorflow as tf
    >>> context = BatchContext(tf.eye(2, dtype=tf.bool), tf.math.log([0.75, 0.25]), tf.ones(2))
    >>> context.is_positive.numpy().tolist()
    [[True, False], [False, True]]
    """

    is_positive: tf.Tensor
    log_popularity: tf.Tensor
    weight: tf.Tensor
    threshold: tf.Tensor | None = None

    @property
    def pair_weight(self) -> tf.Tensor | None:
        """What each pair weighs in the log."""
        return None


class WeightedBatchContext(NamedTuple):
    """A `BatchContext` of pairs that differ in weight.

    Args:
      is_positive: as of `BatchContext`.
      log_popularity: as of `BatchContext`.
      weight: float32 [B], of each pair: `Loss.user_weight` times `pair_weight`.
      pair_weight: float32 [B], what each pair weighs in the log; its mean over the log is 1.
      threshold: as of `BatchContext`.
    """

    is_positive: tf.Tensor
    log_popularity: tf.Tensor
    weight: tf.Tensor
    pair_weight: tf.Tensor
    threshold: tf.Tensor | None = None


class Loss(BaseModel, ABC):
    """The training loss of a batch of encoded (user, item) rows, ready for XLA; and what it needs for that.

    A subclass has its settings as fields, which are its constructor's arguments, and is registered by
    `@LOSSES.register(name)`. Weight decay isn't its business: the model adds it.

    Attributes:
      name: as in the settings.
      reads_lengths: whether the lengths of the rows matter. A loss that looks at directions alone turns long rows more
        slowly, so its rows start at unit length.
      needs_context: whether it needs the `BatchContext` of every batch. Others get it where pairs have weights, by
        which a loss multiplies its terms.
      exact_trace: whether it has `hessian_traces`.

    Raises:
      ValueError: A setting is unknown or out of range.

    Example:
      >>> class Distance(Loss):
      ...     def __call__(self, users, items, negatives, context):
      ...         return ((users - items) ** 2).sum(axis=1).mean()
      >>> float(Distance()(np.array([[1.0, 0.0]]), np.array([[0.0, 0.0]]), None, None))
      1.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    reads_lengths: ClassVar[bool] = False
    needs_context: ClassVar[bool] = False
    exact_trace: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self,
        users: tf.Tensor,
        items: tf.Tensor,
        negatives: tf.Tensor | None,
        context: BatchContext | WeightedBatchContext | None,
    ) -> tf.Tensor:
        """The loss of a batch.

        Args:
          users: float32 [B, d].
          items: float32 [B, d], the item that each user took.
          negatives: float32 [B, n, d], n being `negatives_per_pair`; None where that is 0.
          context: None unless `needs_context`, or pairs have weights.

        Returns:
          float32 [].

        Raises:
          ValueError: Something is None that the loss needs.
        """

    def scores(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """The scores that the loss compares, float32 [B], of rows float32 [B, d] each."""
        import tensorflow as tf

        if not self.reads_lengths:
            users, items = tf.math.l2_normalize(users, axis=-1), tf.math.l2_normalize(items, axis=-1)
        return tf.reduce_sum(users * items, axis=-1)

    @property
    def negatives_per_pair(self) -> int:
        """How many items that its user has not interacted with are drawn for each pair."""
        return 0

    @property
    def needs_negatives(self) -> bool:
        """Whether the batch has negatives."""
        return self.negatives_per_pair > 0

    @property
    def needs_positives(self) -> bool:
        """Whether the batch tells which users of its pairs took which of its items."""
        return False

    @property
    def threshold_rank(self) -> int:
        """k, if the loss is told about each user's k-th best score of all items as the epoch begins; else 0."""
        return 0

    def user_weight(self, counts: Float64Array) -> Float64Array:
        """The weight of each user's pairs; the mean over all interactions is 1.

        Args:
          counts: float64 [U], training interactions of each user.

        Returns:
          float64 [U].
        """
        return np.ones(len(counts))

    def hessian_traces(
        self, users: tf.Tensor, items: tf.Tensor, negatives: tf.Tensor | None, weight: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The exact trace of the loss's Hessian with respect to all user rows, and to all item rows.

        Args:
          users: as of a call, likewise the rest.
          items: float32 [B, d].
          negatives: float32 [B, n, d].
          weight: float32 [B], of each pair; None where all weigh 1.

        Returns:
          float32 [] and [].

        Raises:
          ValueError: The loss has none: `exact_trace` is False.
        """
        raise ValueError(f"loss {self.name} has no exact Hessian trace: estimate it (quantization.hessian)")

    def default_ranges(self) -> dict[str, Mapping[str, Any]]:
        """What `tf-hqgnn tune` searches by default: for settings of this loss, `low`, `high` and perhaps `log`."""
        return {}

    def describe(self) -> str:
        """The settings that matter, for a report."""
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self)

    def get_config(self) -> dict[str, Any]:
        """The name and the settings, JSON-ready; `make_loss` takes them."""
        return {"name": self.name, **self.model_dump(mode="json")}


LOSSES: Registry[Loss] = Registry("loss", "tf_hqgnn.losses")


def make_loss(name: str, **settings: Any) -> Loss:
    """The loss with that name and these settings.

    Raises:
      ValueError: There is none of that name, or a setting is unknown or out of range.

    Example:
      >>> make_loss("softmax", temperature=0.2).needs_positives
      True
    """
    try:
        return LOSSES[name](**settings)
    except ValidationError as error:
        # pydantic's own message has several lines for each fault.
        faults = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}, got {one['input']!r}" for one in error.errors()]
        raise ValueError(f"loss {name}: {'; '.join(faults)}") from error
