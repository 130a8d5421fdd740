"""Graph recommendations on TensorFlow: LightGODE embeddings, HQ-GNN codes."""

from typing import TYPE_CHECKING

from tf_hqgnn.lazy_names import lazy_names
from tf_hqgnn.startup import choose_keras_2, forbid_pickled_types

if TYPE_CHECKING:
    from tf_hqgnn.config import Config
    from tf_hqgnn.recommender import Recommender
    from tf_hqgnn.types import InputError, NotFittedError

__version__ = "0.2.0"

__all__ = ["Config", "InputError", "NotFittedError", "Recommender"]

choose_keras_2()
forbid_pickled_types()

__getattr__, __dir__ = lazy_names(
    __name__, {"Config": "config", "InputError": "types", "NotFittedError": "types", "Recommender": "recommender"}
)
