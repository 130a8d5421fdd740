"""Graph recommendations on TensorFlow: LightGODE embeddings, HQ-GNN codes."""

from tf_hqgnn.startup import choose_keras_2, forbid_pickled_types

__version__ = "0.2.0"

choose_keras_2()
forbid_pickled_types()
