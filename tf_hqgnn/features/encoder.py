"""From features as text to embeddings, by operations that any TensorFlow has; training and serving share them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_hqgnn.data.timestamps import NUMBER
from tf_hqgnn.features.columns import Column
from tf_hqgnn.retrieval.ids import IdTable
from tf_hqgnn.types import Float32Array


class FeatureEncoder(tf.Module):
    """Turns rows of `name=value` into rows of numbers, each column centred on its mean.

    A category or list has a 1 for each of its values, a text for each bucket that one of its words is hashed to. A
    number x between the knots a and b has (b - x) / (b - a) for a and the rest to 1 for b. The mean is taken off where
    a column is known; where it isn't, or has only unknown values, the column is 0. So nothing known is the mean of all.

    Args:
      columns: what each is.
      means: float32 [W], of each number over the rows where its column is known; None for zeros.

    Example:
      >>> encoder = FeatureEncoder([Column("genre", "list", values=("Drama", "War"))])
      >>> values, known = encoder.call(tf.constant([["genre=War|Opera", ""], ["genre=Opera", "age=7"]]))
      >>> values.numpy().tolist(), known.numpy().tolist()
      ([[0.0, 1.0], [0.0, 0.0]], [[True], [False]])
    """

    def __init__(self, columns: Sequence[Column], means: Float32Array | None = None) -> None:
        super().__init__(name="features")
        self.columns = tuple(columns)
        self.width = sum(column.width for column in columns)
        zeros = np.zeros(self.width, np.float32)
        self.means = tf.Variable(zeros if means is None else means, trainable=False, name="means")
        self.tables = {str(place): IdTable(column.values) for place, column in enumerate(self.columns) if column.values}

    def call(self, pairs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Encodes features.

        Args:
          pairs: string [B, F], `name=value` in any order, padded with ""; a list may be one `name=a|b` or several
            entries. What isn't known by name or value counts for nothing.

        Returns:
          float32 [B, W], and bool [B, number of columns]: whether each column is known.
        """
        # (?s): a value may hold a line break.
        is_pair = tf.strings.regex_full_match(pairs, "(?s)[^=]+=.*")
        name = tf.where(is_pair, tf.strings.regex_replace(pairs, "(?s)=.*", "", replace_global=False), "")
        value = tf.strings.strip(tf.strings.regex_replace(pairs, "(?s)^[^=]*=", "", replace_global=False))
        means = tf.split(self.means, [column.width for column in self.columns])
        blocks, known = [], []
        for place, column in enumerate(self.columns):
            texts = tf.where(tf.equal(name, column.name), value, "")
            raw = _numbers(texts, column) if column.knots else self._tokens(texts, column, place)
            is_known = tf.reduce_any(raw > 0, axis=1, keepdims=True)
            blocks.append(tf.where(is_known, raw - means[place], 0.0))
            known.append(is_known)
        return tf.concat(blocks, axis=1), tf.concat(known, axis=1)

    def _tokens(self, texts: tf.Tensor, column: Column, place: int) -> tf.Tensor:
        """1 for every value that a row has, float32 [B, width]."""
        shape = tf.shape(texts)
        row = tf.repeat(tf.range(shape[0]), shape[1])
        flat = tf.reshape(texts, [-1])
        if column.kind == "category":
            tokens = flat
        else:
            if column.kind == "text":
                flat = tf.strings.regex_replace(tf.strings.lower(flat, "utf-8"), r"[^\pL\pN]+", " ")
            # Not tf.strings.split, whose ragged tensors count rows on the host. A separator of "" is any blank.
            split = tf.raw_ops.StringSplitV2(input=flat, sep="" if column.kind == "text" else "|")
            row, tokens = tf.gather(row, split.indices[:, 0]), tf.strings.strip(split.values)
        if column.buckets:
            index = tf.strings.to_hash_bucket_fast(tokens, column.buckets)
        else:
            index = self.tables[str(place)].lookup(tokens)
        is_there = (index >= 0) & tf.not_equal(tokens, "")
        places = tf.stack([tf.cast(row, tf.int64), index], axis=1)
        counts = tf.scatter_nd(
            tf.boolean_mask(places, is_there),
            tf.ones_like(tf.boolean_mask(index, is_there), tf.float32),
            tf.cast(tf.stack([shape[0], column.width]), tf.int64),
        )
        return tf.minimum(counts, 1.0)


def _numbers(texts: tf.Tensor, column: Column) -> tf.Tensor:
    """The weights of the two knots beside a number, float32 [B, knots]; the mean of several numbers of a row."""
    is_number = tf.strings.regex_full_match(texts, NUMBER)
    value = tf.strings.to_number(tf.where(is_number, texts, "0"), tf.float64)
    knots = np.array(column.knots)
    # Straight beyond the ends, too, would be a guess: the nearest knot answers for what lies outside.
    value = tf.clip_by_value(value, knots[0], knots[-1])[..., tf.newaxis]
    weights = tf.ones_like(value)
    if len(knots) > 1:
        before = (value - knots[:-1]) / np.diff(knots)
        rising = tf.concat([tf.ones_like(value), before], axis=-1)
        falling = tf.concat([1.0 - before, tf.ones_like(value)], axis=-1)
        weights = tf.maximum(tf.minimum(rising, falling), 0.0)
    known = tf.cast(is_number, tf.float64)[..., tf.newaxis]
    count = tf.reduce_sum(known, axis=1)
    return tf.cast(tf.math.divide_no_nan(tf.reduce_sum(weights * known, axis=1), count), tf.float32)


class FeatureRows(tf.Module):
    """Embeddings of features: `intercept + encode(features) weights`.

    Args:
      encoder: of the features.
      weights: float32 [W, d].
      intercept: float32 [d].
    """

    def __init__(self, encoder: FeatureEncoder, weights: Float32Array, intercept: Float32Array) -> None:
        super().__init__(name="feature_rows")
        self.encoder = encoder
        self.weights = tf.Variable(np.asarray(weights, np.float32), trainable=False, name="weights")
        self.intercept = tf.Variable(np.asarray(intercept, np.float32), trainable=False, name="intercept")

    def call(self, pairs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns float32 [B, d] of string [B, F], and bool [B]: whether any feature is known."""
        values, known = self.encoder.call(pairs)
        return tf.matmul(values, self.weights) + self.intercept, tf.reduce_any(known, axis=1)
