"""Graph convolutions that stand between the trained tables and the loss: LightGCN and NGCF."""

from __future__ import annotations

import abc
from typing import Any

import tensorflow as tf
import tf_keras

from tf_hqgnn.graph.propagation import NormalizedAdjacency, sparse_product
from tf_hqgnn.layers.graph_layer import Graph, GraphLayer, rows_shape

_LAYER_WEIGHTS = ("uniform", "learned")


class GraphConvolution(GraphLayer, abc.ABC):
    """K layers of messages over the edges of a graph: what `LightGCNConvolution` and `NGCFConvolution` have in common.

    A training step takes 2 K sparse products: K forward, and K backward, because the gradient of A h is A g.

    Args:
      num_layers: K, at least 1.
      graph: As of `GraphLayer`: the graph over n nodes, or None if it is passed in each call.

    Call arguments:
      inputs: The tables e, float [n, d], users first. Without a graph of its own, `(adjacency, e)`: the
        `NormalizedAdjacency` A over n nodes, or a `tf.SparseTensor` of the symmetric normalisation in row-major order.
      training: whether messages are dropped.
      step: int [], the number of the training step, from which (with the layer's seed) the dropped messages follow;
        None drops others in each call.

    Returns:
      float [n, output_dim(d)].

    Raises:
      ValueError: `num_layers` is below 1.
      TypeError: It is this class itself that is made.

    Example:
      >>> GraphConvolution(3)
      Traceback (most recent call last):
      ...
      TypeError: GraphConvolution is abstract: make a LightGCNConvolution or an NGCFConvolution
      >>> isinstance(LightGCNConvolution(3), GraphConvolution)
      True
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> GraphConvolution:
        """Says which classes there are in place of this one."""
        if cls is GraphConvolution:
            raise TypeError("GraphConvolution is abstract: make a LightGCNConvolution or an NGCFConvolution")
        layer: GraphConvolution = super().__new__(cls, *args, **kwargs)
        return layer

    def __init__(self, num_layers: int = 3, graph: Graph | None = None, **kwargs: Any) -> None:
        super().__init__(graph, **kwargs)
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}; without a graph, use LookupEncoder")
        self.num_layers = num_layers

    def call(self, inputs: Any, training: bool | None = None, step: tf.Tensor | int | None = None) -> tf.Tensor:
        """See the class."""
        adjacency, e = self.adjacency_and_rows(inputs)
        return tf.cast(self.convolve(adjacency, e, bool(training), step), self.compute_dtype)

    @abc.abstractmethod
    def convolve(
        self, adjacency: NormalizedAdjacency, e: tf.Tensor, training: bool, step: tf.Tensor | int | None
    ) -> tf.Tensor:
        """The encoded nodes, [n, output_dim(d)]."""

    @abc.abstractmethod
    def output_dim(self, embedding_dim: int) -> int:
        """Length of an encoded row for tables with `embedding_dim` columns."""

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """A row for every row of the tables."""
        num_nodes, embedding_dim = rows_shape(input_shape)
        return tf.TensorShape([num_nodes, self.output_dim(embedding_dim)])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "num_layers": self.num_layers}


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class LightGCNConvolution(GraphConvolution):
    """`sum_k a_k A^k e`, k = 0..K: the tables, smoothed over the graph, without transformations.

    A training step takes 2 K sparse products and nothing else that grows with the number of edges.

    Args:
      num_layers: K, at least 1.
      layer_weights: "uniform", a_k = 1 / (K + 1) as published, or "learned", a = softmax(w) of trained w [K + 1] that
        starts uniform. The softmax is ours: free weights could grow while the tables shrink, past the tables' L2.
      graph: As of `GraphLayer`: the graph over n nodes, or None if it is passed in each call.

    Call arguments:
      As `GraphConvolution`; `training` and `step` make no difference.

    Raises:
      ValueError: `num_layers` is below 1 or `layer_weights` is unknown.

    Reference:
      LightGCN, SIGIR 2020, arXiv 2002.02126, eq. 7-8.

    Example:
      >>> pair = tf.sparse.from_dense([[0.0, 1.0], [1.0, 0.0]])
      >>> LightGCNConvolution(num_layers=2, graph=pair)(tf.constant([[3.0], [0.0]])).numpy().ravel().tolist()
      [2.0, 1.0]
    """

    def __init__(
        self,
        num_layers: int = 3,
        layer_weights: str = "uniform",
        graph: Graph | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_layers, graph, **kwargs)
        if layer_weights not in _LAYER_WEIGHTS:
            raise ValueError(f"layer_weights must be one of {', '.join(_LAYER_WEIGHTS)}, got {layer_weights!r}")
        self.layer_weights = layer_weights

    def build(self, input_shape: Any) -> None:
        """Makes w if the layer weights are learned."""
        if self.layer_weights == "learned" and not self.built:
            self.layer_logits = self.add_weight(
                "layer_logits", [self.num_layers + 1], initializer="zeros", experimental_autocast=False
            )
        super().build(input_shape)

    def convolve(
        self, adjacency: NormalizedAdjacency, e: tf.Tensor, training: bool, step: tf.Tensor | int | None
    ) -> tf.Tensor:
        """The weighted sum over hops, [n, d]."""
        del training, step
        hops = [e]
        for _ in range(self.num_layers):
            hops.append(sparse_product(adjacency, hops[-1]))
        if self.layer_weights == "uniform":
            return tf.add_n(hops) / len(hops)
        weights = tf.unstack(tf.nn.softmax(tf.cast(self.layer_logits, e.dtype)))
        return tf.add_n([weight * hop for weight, hop in zip(weights, hops)])

    def output_dim(self, embedding_dim: int) -> int:
        """That of the tables."""
        return embedding_dim

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "layer_weights": self.layer_weights}


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class NGCFConvolution(GraphConvolution):
    """`[e, norm(h_1), ..., norm(h_K)]` with `h_k = dropout(LeakyReLU((A h + h) W_k + (A h * h) V_k))`, h = h_{k-1}.

    h_0 = e [n, d]; W_k and V_k [d, d] are trained; `*` is the product by element (the bi-interaction: a message says
    how alike its two ends are); norm scales rows to unit length. A training step takes 2 K sparse products and 6 K
    dense ones of [n, d] with [d, d].

    Args:
      num_layers: K, at least 1.
      message_dropout: share of the elements of h_k that a training step drops, in [0, 1).
      negative_slope: of the LeakyReLU, >= 0; .2 is that of the authors' code.
      seed: of W, V and of what is dropped.
      graph: As of `GraphLayer`: the graph over n nodes, or None if it is passed in each call.

    Call arguments:
      As `GraphConvolution`. The same seed and `step` drop the same, so that a resumed run goes on as the first one
      would have.

    Raises:
      ValueError: A setting is out of range.

    Reference:
      NGCF, SIGIR 2019, arXiv 1905.08108, eq. 7 for the messages; dropout of their sum before the next layer, and unit
      rows only in what is concatenated, as in the authors' code. Without the biases of that code, as in the paper.

    Example:
      >>> pair = tf.sparse.from_dense([[0.0, 1.0], [1.0, 0.0]])
      >>> NGCFConvolution(num_layers=2, graph=pair)(tf.ones([2, 4])).shape.as_list()
      [2, 12]
    """

    def __init__(
        self,
        num_layers: int = 3,
        message_dropout: float = 0.1,
        negative_slope: float = 0.2,
        seed: int = 0,
        graph: Graph | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_layers, graph, **kwargs)
        if not 0 <= message_dropout < 1:
            raise ValueError(f"message_dropout must be in [0, 1), got {message_dropout}")
        if not 0 <= negative_slope < float("inf"):
            raise ValueError(f"negative_slope must be 0 or more, got {negative_slope}")
        self.message_dropout = message_dropout
        self.negative_slope = negative_slope
        self.seed = seed

    def build(self, input_shape: Any) -> None:
        """Makes W and V of every layer."""
        if self.built:
            return
        dim = rows_shape(input_shape)[-1]
        # seed + 0 and + 1 are those of the tables.
        self.matrices = [
            tuple(
                self.add_weight(
                    f"{name}_{layer}",
                    [dim, dim],
                    initializer=tf_keras.initializers.GlorotUniform(seed=self.seed + 2 + 2 * layer + offset),
                    experimental_autocast=False,
                )
                for offset, name in enumerate(("sum_kernel", "interaction_kernel"))
            )
            for layer in range(self.num_layers)
        ]
        super().build(input_shape)

    def convolve(
        self, adjacency: NormalizedAdjacency, e: tf.Tensor, training: bool, step: tf.Tensor | int | None
    ) -> tf.Tensor:
        """Tables and layers side by side, [n, (K + 1) d]."""
        h, outputs = e, [e]
        for layer, (sum_kernel, interaction_kernel) in enumerate(self.matrices):
            sum_kernel, interaction_kernel = (tf.cast(kernel, e.dtype) for kernel in (sum_kernel, interaction_kernel))
            neighbours = sparse_product(adjacency, h)
            h = tf.nn.leaky_relu(
                tf.matmul(neighbours + h, sum_kernel) + tf.matmul(neighbours * h, interaction_kernel),
                self.negative_slope,
            )
            if training and self.message_dropout > 0:
                h = self._drop(h, layer, step)
            outputs.append(tf.math.l2_normalize(h, axis=-1))
        return tf.concat(outputs, axis=-1)

    def _drop(self, h: tf.Tensor, layer: int, step: tf.Tensor | int | None) -> tf.Tensor:
        if step is None:
            return tf.nn.dropout(h, self.message_dropout, seed=self.seed + layer)
        number = tf.cast(step, tf.int64) * self.num_layers + layer
        seed = tf.stack([tf.constant(self.seed, tf.int64), number])
        return tf.nn.experimental.stateless_dropout(h, self.message_dropout, seed)

    def output_dim(self, embedding_dim: int) -> int:
        """Tables and K layers."""
        return (self.num_layers + 1) * embedding_dim

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "message_dropout": self.message_dropout,
            "negative_slope": self.negative_slope,
            "seed": self.seed,
        }
