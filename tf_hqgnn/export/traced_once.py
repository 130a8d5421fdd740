"""A search that all signatures of a module share, so that it is written into its graph once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_hqgnn.retrieval.queries import Queries, QueryCodes


class TracedOnce:
    """A function of queries and other tensors as one `tf.function` that all signatures call.

    A search is most of a signature. Traced into every one it would make an export take twice as long to write and to
    load. Where users are codes and histories aren't, there are two.

    Args:
      function: takes `Queries` and tensors, whose sizes may vary, but for the width of queries; returns tensors.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._traced: dict[int | None, Callable[..., Any]] = {}

    def __call__(self, queries: Queries, *others: tf.Tensor) -> Any:
        """Return what the function returns."""
        codes = queries.codes
        num_bits = None if codes is None else codes.num_bits
        parts: tuple[tf.Tensor, ...] = ()
        if codes is not None:
            parts = (codes.codes, codes.scale) if codes.offset is None else (codes.codes, codes.scale, codes.offset)
        if num_bits not in self._traced:

            def of_tensors(rows: tf.Tensor, parts: tuple[tf.Tensor, ...], *others: tf.Tensor) -> Any:
                codes = None
                if num_bits is not None:
                    codes = QueryCodes(parts[0], num_bits, parts[1], parts[2] if len(parts) > 2 else None)
                return self._function(Queries(rows, codes), *others)

            def any_batch(tensor: tf.Tensor) -> tf.TensorSpec:
                return tf.TensorSpec([None, *tensor.shape[1:].as_list()], tensor.dtype)

            def any_size(tensor: tf.Tensor) -> tf.TensorSpec:
                return tf.TensorSpec([None] * tensor.shape.rank, tensor.dtype)

            signature = [any_batch(queries.rows), tuple(map(any_batch, parts)), *map(any_size, others)]
            self._traced[num_bits] = tf.function(of_tensors, input_signature=signature, autograph=False)
        return self._traced[num_bits](queries.rows, parts, *others)
