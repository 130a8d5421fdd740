"""Encoders: how the rows of a batch follow from the trained tables."""

from __future__ import annotations

import abc
from typing import Any

import tensorflow as tf
import tf_keras


class Encoder(tf_keras.layers.Layer, abc.ABC):
    """Turns the trained tables into the rows that the loss sees.

    Call arguments:
      inputs: (user table float32 [U, d], item table float32 [I, d], user_index int32 [...], item_index int32 [...]).

    Returns:
      (user rows [..., d], item rows [..., d]).
    """

    @abc.abstractmethod
    def call(self, inputs: tuple[Any, Any, tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoded rows at `user_index` and `item_index`."""


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class LookupEncoder(Encoder):
    """No graph convolution: the rows are the tables' own (LightGODE). A step's cost is that of the batch.

    Example:
    >>> table = tf.constant([[1.0], [2.0]])
    >>> users, items = LookupEncoder()((table, table, tf.constant([1]), tf.constant([0])))
    >>> users.numpy().tolist(), items.numpy().tolist()
    ([[2.0]], [[1.0]])
    """

    def call(self, inputs: tuple[Any, Any, tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The tables' rows."""
        user_table, item_table, user_index, item_index = inputs
        return tf.gather(user_table, user_index), tf.gather(item_table, item_index)
