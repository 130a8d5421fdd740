"""Reading variables of a served model."""

from __future__ import annotations

import tensorflow as tf

# What bytes are gathered as, by how many at a time: there is a GPU kernel for these, and none for bytes.
_WIDER = {8: tf.int64, 4: tf.int32, 2: tf.float16}


def gather(variable: tf.Variable, index: tf.Tensor) -> tf.Tensor:
    """`tf.gather` of a variable's rows, that leaves other reads of it as cheap as they are.

    `tf.gather` of a variable becomes ResourceGather, which turns every later read of the whole variable, in whatever
    graph, into a copy of it: a quarter of a gigabyte a request for a million rows. Reading copies nothing, and what is
    gathered is the same. Bytes in rows of odd width are left to ResourceGather, which alone has a GPU kernel for them.

    Args:
      variable: [n, ...]; bytes as [n, width].
      index: int32 or int64 of any shape, in range.

    Example:
      >>> gather(tf.Variable([[1, 2], [3, 4]], dtype=tf.uint8), tf.constant([[1], [0]])).numpy().tolist()
      [[[3, 4]], [[1, 2]]]
    """
    if variable.dtype != tf.uint8:
        return tf.gather(variable.read_value(), index)
    num_rows, width = variable.shape
    size = next((size for size in _WIDER if width % size == 0), None)
    if size is None:
        return tf.gather(variable, index)
    parts = tf.reshape(variable.read_value(), [num_rows, width // size, size])
    rows = tf.gather(tf.bitcast(parts, _WIDER[size]), index)
    return tf.reshape(tf.bitcast(rows, tf.uint8), tf.concat([tf.shape(index), [width]], axis=0))
