"""The layers of the suite, on a graph of eight nodes, and a model that looks rows up."""

import numpy as np
import tensorflow as tf
import tf_keras

from tf_hqgnn.graph import InteractionGraph
from tf_hqgnn.layers import GraphODE, LightGCNConvolution, LowBitQuantizer, NGCFConvolution
from tf_hqgnn.types import Interactions

ROWS = 8


def graph():
    """Four users and items; user 2 and item 3 have no edge."""
    log = Interactions(np.array([0, 0, 1, 3], np.int32), np.array([0, 1, 1, 2], np.int32))
    return InteractionGraph.from_interactions(log, num_users=4, num_items=4)


def rows():
    return np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)


# By name, what makes the layer, and how many weights it then has: two are the graph's.
GRAPH_CASES = {
    "lightgcn": (lambda: LightGCNConvolution(2, "learned", graph=graph(), name="lightgcn"), 3),
    "ngcf": (lambda: NGCFConvolution(graph=graph(), name="ngcf"), 8),
    "ode": (lambda: GraphODE(1.8, "rk4", num_steps=2, normalize=True, graph=graph(), name="ode"), 2),
}
CASES = GRAPH_CASES | {
    "per_row": (lambda: LowBitQuantizer(2, symmetric=False, name="per_row"), 1),
    "per_tensor": (lambda: LowBitQuantizer(4, "per_tensor", False, "ewgs", delta=0.5, name="per_tensor"), 3),
    "per_column": (lambda: LowBitQuantizer(1, estimator="reste", delta_per="column", name="per_column"), 1),
    "output_scale": (
        lambda: LowBitQuantizer(2, "per_tensor", estimator="lsq", output_scale=True, name="output_scale"),
        3,
    ),
}


@tf_keras.utils.register_keras_serializable(package="tests")
class Scorer(tf_keras.Model):
    """A table that goes through the layer, and a score for the rows of a batch."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.table = self.add_weight("table", [ROWS, 3], initializer=tf_keras.initializers.Constant(rows()))
        self.layer = layer
        self.score = tf_keras.layers.Dense(1, kernel_initializer="ones")

    def build(self, input_shape):
        self.score.build([None, self.layer.compute_output_shape([ROWS, 3])[-1]])
        self.layer.build(tf.TensorShape([ROWS, 3]))
        super().build(input_shape)

    def call(self, nodes):
        return self.score(tf.gather(self.layer(self.table), tf.cast(nodes, tf.int32)))

    def get_config(self):
        return {"layer": tf_keras.utils.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config, custom_objects=None):  # noqa: ARG003
        return cls(tf_keras.utils.deserialize_keras_object(config["layer"]))
