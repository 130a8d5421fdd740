"""What the layers over a graph have in common: where they take the graph from, and how it is saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
import tf_keras

from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.graph.propagation import NormalizedAdjacency

# What a layer can be given as its graph; the mapping is what a config says of one.
Graph: TypeAlias = InteractionGraph | NormalizedAdjacency | tf.SparseTensor | Mapping[str, Any]
_PRODUCT_DTYPES = ("float32", "float64")


class GraphLayer(tf_keras.layers.Layer):
    """A layer over the nodes of a graph, which it is given once and for all, or in each call.

    A graph that it is given once is held in weights that aren't trained, so that every way to save a model saves the
    graph too: int32 [m, 2] and float [m] for the m entries of the adjacency, two an edge. Its config has their sizes
    alone: a layer made from it has a graph as soon as weights are loaded.

    Sparse products have no kernels for half precision: under a mixed-precision policy the layer computes in float32 and
    returns what the policy computes with.

    Args:
      graph: The graph over n nodes: an `InteractionGraph`, whose symmetric normalisation is taken, or the normalised
        adjacency itself, as a `NormalizedAdjacency` or as a `tf.SparseTensor` [n, n] in row-major order. None if it is
        passed in each call.
    """

    def __init__(self, graph: Graph | None = None, **kwargs: Any) -> None:
        # Half precision is for what comes out, not for the adjacency that comes in.
        super().__init__(autocast=False, **kwargs)
        self._graph_size: dict[str, Any] | None = None
        self._graph_entries: tuple[Any, Any] | None = None
        if isinstance(graph, Mapping):
            self._graph_size = dict(graph)
        elif graph is not None:
            self.bind(graph)

    @property
    def has_graph(self) -> bool:
        """Whether the layer has a graph of its own."""
        return self._graph_size is not None

    def bind(self, graph: InteractionGraph | NormalizedAdjacency | tf.SparseTensor) -> None:
        """Gives the layer a graph of its own, or another one of as many nodes and edges.

        Raises:
          ValueError: It isn't a graph, or the layer has been built with a graph of another size.
        """
        dtype = self.dtype if self.dtype in _PRODUCT_DTYPES else "float32"
        if isinstance(graph, InteractionGraph):
            graph = graph.normalized_adjacency(dtype=tf.as_dtype(dtype))
        elif isinstance(graph, tf.SparseTensor):
            graph = NormalizedAdjacency.from_sparse_tensor(tf.cast(graph, dtype))
        if not isinstance(graph, NormalizedAdjacency):
            raise ValueError(
                "graph must be an InteractionGraph, a NormalizedAdjacency or a tf.SparseTensor, got "
                f"{type(graph).__name__}"
            )
        size = {"num_nodes": graph.num_nodes, "norm_bound": graph.norm_bound, "dtype": graph.dtype.name}
        sparse = graph.to_sparse_tensor()
        size["num_entries"] = len(sparse.values)
        built_for = self._graph_size if hasattr(self, "graph_values") else None
        if built_for is not None and {**built_for, "norm_bound": None} != {**size, "norm_bound": None}:
            raise ValueError(
                f"{self.name} is built for a graph of {built_for['num_nodes']} nodes and {built_for['num_entries']} "
                f"entries, got one of {size['num_nodes']} and {size['num_entries']}"
            )
        self._graph_size = size
        self._graph_entries = sparse.indices.numpy().astype(np.int32), sparse.values.numpy()
        if built_for is not None:
            self.graph_entries.assign(self._graph_entries[0])
            self.graph_values.assign(self._graph_entries[1])
            self._graph_entries = None
        elif self.built:
            self._add_graph_weights()

    def build(self, input_shape: Any) -> None:
        """Makes the weights that hold the graph, if the layer was given one."""
        if self._graph_size is not None and not self.built:
            self._add_graph_weights()
        super().build(input_shape)

    def _add_graph_weights(self) -> None:
        size = self._graph_size or {}
        entries, values = self._graph_entries or (None, None)
        self.graph_entries = self._add_constant("graph_entries", [size["num_entries"], 2], "int32", entries)
        self.graph_values = self._add_constant("graph_values", [size["num_entries"]], size["dtype"], values)
        self._graph_entries = None

    def _add_constant(self, name: str, shape: list[int], dtype: str, value: Any) -> tf.Variable:
        initializer = "zeros" if value is None else lambda *_args, **_kwargs: tf.constant(value, dtype)
        return self.add_weight(
            name, shape, dtype, initializer=initializer, trainable=False, experimental_autocast=False
        )

    def adjacency_and_rows(self, inputs: Any) -> tuple[NormalizedAdjacency, tf.Tensor]:
        """The graph and the rows of its nodes [n, d] that the layer was called with, in the dtype of the graph.

        Args:
          inputs: The rows, if the layer has a graph of its own; otherwise `(adjacency, rows)`.

        Raises:
          ValueError: There is no graph.
        """
        if isinstance(inputs, (tuple, list)):
            if len(inputs) != 2:
                raise ValueError(f"{self.name} must be called with (adjacency, rows), got {len(inputs)} inputs")
            adjacency, rows = inputs
            if not isinstance(adjacency, NormalizedAdjacency):
                adjacency = NormalizedAdjacency.from_sparse_tensor(_as_sparse(adjacency))
        elif self._graph_size is not None:
            adjacency, rows = self._own_adjacency(), inputs
        else:
            raise ValueError(
                f"{self.name} has no graph: make it with one, {type(self).__name__}(..., graph=graph), or call it with "
                "(adjacency, rows)"
            )
        return adjacency.here(), tf.cast(rows, adjacency.dtype)

    def _own_adjacency(self) -> NormalizedAdjacency:
        size = self._graph_size or {}
        values = tf.convert_to_tensor(self.graph_values)
        if size["num_entries"]:
            values = self._checked(values)
        shape = (size["num_nodes"], size["num_nodes"])
        sparse = tf.SparseTensor(tf.cast(self.graph_entries, tf.int64), values, shape)
        return NormalizedAdjacency.from_sparse_tensor(sparse, size["norm_bound"])

    def _checked(self, values: tf.Tensor) -> tf.Tensor:
        """The values, unless nothing has filled the weights of the graph."""
        is_there = tf.reduce_any(values != 0)
        message = f"the graph of {self.name} isn't there yet: load or set the weights of the model first"
        if tf.executing_eagerly():
            if not is_there:
                raise ValueError(message)
            return values
        with tf.control_dependencies([tf.debugging.Assert(is_there, [message])]):
            return tf.identity(values)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; of a graph its sizes, the graph itself is in the weights."""
        return {**super().get_config(), "graph": self._graph_size}


def rows_shape(input_shape: Any) -> tf.TensorShape:
    """The shape [n, d] of the rows, of the shapes of what a `GraphLayer` is called with."""
    nested = not isinstance(input_shape, tf.TensorShape) and isinstance(input_shape[1], (tuple, list, tf.TensorShape))
    return tf.TensorShape(input_shape[1] if nested else input_shape)


def _as_sparse(adjacency: Any) -> tf.SparseTensor:
    """An adjacency as a tf.SparseTensor that products have kernels for; dense where Keras exports a sparse input."""
    if not isinstance(adjacency, tf.SparseTensor):
        adjacency = tf.sparse.from_dense(adjacency)
    return adjacency if adjacency.dtype.name in _PRODUCT_DTYPES else tf.cast(adjacency, tf.float32)
