"""Encoders: how the rows of a batch follow from the trained tables."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import tensorflow as tf
import tf_keras

from tf_hqgnn.config import ModelConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.graph.propagation import NormalizedAdjacency
from tf_hqgnn.layers.graph_convolution import GraphConvolution


class Encoder(tf_keras.layers.Layer, abc.ABC):
    """Turns the trained tables into the rows that the loss sees, as `LookupEncoder` and `GraphEncoder` do.

    Call arguments:
      inputs: (user table float32 [U, d], item table float32 [I, d], user_index int32 [...], item_index int32 [...]).
      training: whether what is random while training happens.
      step: int [], the number of the training step, from which anything random follows.

    Returns:
      (user rows [..., d'], item rows [..., d']).
    """

    # Whether the encoded rows are other than the tables'.
    convolves: bool = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Encoder:
        """Says which classes there are in place of this one."""
        if cls is Encoder:
            raise TypeError("Encoder is abstract: make a LookupEncoder or a GraphEncoder")
        encoder: Encoder = super().__new__(cls, *args, **kwargs)
        return encoder

    def call(
        self,
        inputs: tuple[Any, Any, tf.Tensor, tf.Tensor],
        training: bool | None = None,
        step: tf.Tensor | int | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoded rows at `user_index` and `item_index`."""
        user_table, item_table, user_index, item_index = inputs
        users, items = self.encode_tables(user_table, item_table, bool(training), step)
        return tf.gather(users, user_index), tf.gather(items, item_index)

    def output_dim(self, embedding_dim: int) -> int:
        """The number of columns of the encoded rows, for tables with `embedding_dim` columns."""
        return embedding_dim

    def unsaved(self) -> AbstractContextManager[None]:
        """While this is entered, what is traced is never saved: a graph may be captured as it is, which is faster."""
        return nullcontext()

    @abc.abstractmethod
    def encode_tables(
        self, user_table: Any, item_table: Any, training: bool = False, step: tf.Tensor | int | None = None
    ) -> tuple[Any, Any]:
        """Every row encoded: ([U, d'], [I, d']). What is evaluated and exported."""


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class LookupEncoder(Encoder):
    """No graph convolution: the rows are the tables' own (LightGODE). A step's cost is that of the batch.

    Example:
    >>> table = tf.constant([[1.0], [2.0]])
    >>> users, items = LookupEncoder()((table, table, tf.constant([1]), tf.constant([0])))
    >>> users.numpy().tolist(), items.numpy().tolist()
    ([[2.0]], [[1.0]])
    """

    def encode_tables(
        self, user_table: Any, item_table: Any, training: bool = False, step: tf.Tensor | int | None = None
    ) -> tuple[Any, Any]:
        """The tables."""
        del training, step
        return user_table, item_table


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class GraphEncoder(Encoder):
    """A graph convolution over both tables, then the rows of the batch.

    A step's cost is that of the whole graph, not of the batch: 2 K sparse products for K layers.

    Args:
      convolution: over all nodes, users first.
      graph: of the training interactions. It is data, not a setting: it is saved with the weights. An encoder made
        again from its config has it once weights are loaded, or is given one by `bind(graph)`.

    Raises:
      ValueError: In a call: there is no graph, or the tables don't fit it.

    Example:
    >>> import numpy as np
    >>> from tf_hqgnn.layers.graph_convolution import LightGCNConvolution
    >>> from tf_hqgnn.types import Interactions
    >>> pair = InteractionGraph.from_interactions(Interactions(np.array([0]), np.array([0])), num_users=1, num_items=1)
    >>> encoder = GraphEncoder(LightGCNConvolution(num_layers=1), pair)
    >>> users, items = encoder((tf.constant([[2.0]]), tf.constant([[4.0]]), tf.constant([0]), tf.constant([0])))
    >>> users.numpy().tolist(), items.numpy().tolist()
    ([[3.0]], [[3.0]])
    """

    convolves = True

    def __init__(self, convolution: GraphConvolution, graph: InteractionGraph | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.convolution = convolution
        self._sizes: tuple[int, int] | None = None
        self._adjacency: NormalizedAdjacency | None = None
        self._is_unsaved = False
        if graph is not None:
            self.bind(graph)

    def bind(self, graph: InteractionGraph) -> None:
        """Sets the graph that is convolved over, symmetrically normalised."""
        self._sizes = (graph.num_users, graph.num_items)
        self._adjacency = graph.normalized_adjacency()
        self.convolution.bind(graph)

    def build(self, input_shape: Any) -> None:
        """Makes the convolution's weights."""
        if not self.convolution.built:
            dim = tf.TensorShape(input_shape[0])[-1]
            self.convolution.build(((None, None), (None, dim)))
        super().build(input_shape)

    def output_dim(self, embedding_dim: int) -> int:
        """See `Encoder`."""
        return self.convolution.output_dim(embedding_dim)

    @contextmanager
    def unsaved(self) -> Iterator[None]:
        """See `Encoder`; what is saved makes the matrix from the convolution's weights."""
        before, self._is_unsaved = self._is_unsaved, True
        try:
            yield
        finally:
            self._is_unsaved = before

    def encode_tables(
        self, user_table: Any, item_table: Any, training: bool = False, step: tf.Tensor | int | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Users and items, convolved."""
        if not self.convolution.has_graph:
            raise ValueError("the encoder has no graph to convolve over: call bind(graph) first")
        sizes = (user_table.shape[0], item_table.shape[0])
        if self._sizes is not None and sizes != self._sizes:
            raise ValueError(
                f"the tables must have a row for each of the graph's {self._sizes[0]} users and {self._sizes[1]} "
                f"items, got {sizes[0]} and {sizes[1]} rows"
            )
        e = tf.concat([user_table, item_table], axis=0)
        inputs = e
        if self._adjacency is not None and (self._is_unsaved or tf.executing_eagerly()):
            inputs = (self._adjacency.as_constant(), e)
        users, items = tf.split(self.convolution(inputs, training=training, step=step), sizes)
        return users, items

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments but the graph, JSON-ready."""
        return {**super().get_config(), "convolution": tf_keras.utils.serialize_keras_object(self.convolution)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GraphEncoder:
        """The encoder that get_config() describes, with weights initialised anew and no graph."""
        config = dict(config)
        return cls(tf_keras.utils.deserialize_keras_object(config.pop("convolution")), **config)


def make_encoder(config: ModelConfig, graph: InteractionGraph, seed: int) -> Encoder:
    """The encoder that `config` names, over the training interactions.

    Args:
      config: the model's section of the settings.
      graph: of the training interactions.
      seed: of the encoder's weights and of its dropout.
    """
    return config.encoder_choice().make(config, graph, seed)
