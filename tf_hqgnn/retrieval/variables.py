"""Reading the arrays of a table: variables of a served model, or tensors that a compiled program is given."""

from __future__ import annotations

import tensorflow as tf

# What bytes are gathered as, by how many at a time: there is a GPU kernel for these, and none for bytes or int16.
_WIDER = {8: tf.int64, 4: tf.int32, 2: tf.float16}

# The same for slices.
_SLICED_AS = {tf.int16: tf.float16, tf.uint8: tf.int8}


def read(values: tf.Variable | tf.Tensor) -> tf.Tensor:
    """The value of a variable; a tensor as it is."""
    return values.read_value() if isinstance(values, tf.Variable) else values


def gather(variable: tf.Variable | tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """`tf.gather` of a variable's rows, that leaves other reads of it as cheap as they are.

    `tf.gather` of a variable becomes ResourceGather, which turns every later read of the whole variable, in whatever
    graph, into a copy of it: a quarter of a gigabyte a request for a million rows. Reading copies nothing, and what is
    gathered is the same. Bytes alone, or in rows of odd width, are left to ResourceGather, which alone has a GPU kernel
    for them.

    Args:
      variable: [n, ...]; bytes as [n] or [n, width]. A tensor will do, too.
      index: int32 or int64 of any shape, in range.

    Example:
      >>> gather(tf.Variable([[1, 2], [3, 4]], dtype=tf.uint8), tf.constant([[1], [0]])).numpy().tolist()
      [[[3, 4]], [[1, 2]]]
    """
    if variable.dtype == tf.int16:
        return tf.bitcast(tf.gather(tf.bitcast(read(variable), _WIDER[2]), index), tf.int16)
    if variable.dtype != tf.uint8:
        return tf.gather(read(variable), index)
    num_rows, width = variable.shape[0], (variable.shape[1] if variable.shape.rank == 2 else 1)
    size = next((size for size in _WIDER if width % size == 0), None)
    if size is None:
        return tf.gather(variable, index)
    parts = tf.reshape(read(variable), [num_rows, width // size, size])
    rows = tf.gather(tf.bitcast(parts, _WIDER[size]), index)
    return tf.reshape(tf.bitcast(rows, tf.uint8), tf.concat([tf.shape(index), [width]], axis=0))


def rows_from(variable: tf.Variable | tf.Tensor, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """`size` rows of a variable, from `start` on; as a slice of a size that XLA can know, which `[start:end]` isn't.

    Example:
      >>> rows_from(tf.Variable([1, 2, 3]), tf.constant(1), tf.constant(2)).numpy().tolist()
      [2, 3]
    """
    sliced_as = _SLICED_AS.get(variable.dtype, variable.dtype)
    value = tf.bitcast(read(variable), sliced_as)
    part = tf.slice(value, [start, *[0] * (value.shape.rank - 1)], [size, *value.shape[1:]])
    return tf.bitcast(part, variable.dtype)
