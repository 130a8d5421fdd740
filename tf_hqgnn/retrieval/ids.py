"""Ids, which users and clients know, and rows, which the tables know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_hqgnn.retrieval.variables import gather
from tf_hqgnn.types import ObjectArray


class IdTable(tf.Module):
    """The row of an id and the id of a row, inside the graph.

    The ids live in a variable, from which the hash table is filled when the SavedModel is loaded. So they are part of
    the checkpoint and not of the graph, whose file can't exceed 2 GB; and there is no vocabulary file, in which an id
    couldn't hold a newline.

    Args:
      ids: distinct non-empty strings, any UTF-8; their places are the rows.

    Example:
      >>> table = IdTable(["ann", "bob"])
      >>> table.lookup(tf.constant(["bob", "eve", ""])).numpy().tolist()
      [1, -1, -1]
      >>> table.ids(tf.constant([[1, 0]])).numpy().tolist()
      [[b'bob', b'ann']]
    """

    def __init__(self, ids: Sequence[str] | ObjectArray) -> None:
        super().__init__(name="ids")
        self.keys = tf.Variable(tf.constant(list(ids), tf.string), trainable=False, name="ids")
        self._table = tf.lookup.StaticHashTable(_RowNumbers(self.keys), default_value=-1)

    def lookup(self, ids: tf.Tensor) -> tf.Tensor:
        """The rows of `ids` (string, any shape), int64 of the same shape; -1 for an unknown one."""
        return self._table.lookup(ids)

    def ids(self, index: tf.Tensor) -> tf.Tensor:
        """The ids of the rows `index` (in range, any shape), string of the same shape."""
        return gather(self.keys, index)


class _RowNumbers(tf.lookup.KeyValueTensorInitializer):
    """Fills a table with `keys[n] -> n`, read from a variable; the base class would copy the keys into the graph."""

    def __init__(self, keys: tf.Variable) -> None:
        super().__init__([""], [-1], key_dtype=tf.string, value_dtype=tf.int64)
        self._variable = keys

    def initialize(self, table: Any) -> Any:
        """The operation that fills `table`."""
        keys = self._variable.read_value()
        rows = tf.range(tf.size(keys, out_type=tf.int64))
        return tf.raw_ops.InitializeTableV2(table_handle=table.resource_handle, keys=keys, values=rows)
