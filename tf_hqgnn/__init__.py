"""Graph recommendations on TensorFlow: LightGODE embeddings, HQ-GNN codes."""

import importlib
from typing import TYPE_CHECKING, Any

from tf_hqgnn.startup import choose_keras_2, forbid_pickled_types

if TYPE_CHECKING:
    from tf_hqgnn.config import Config as Config
    from tf_hqgnn.recommender import Recommender as Recommender
    from tf_hqgnn.types import InputError as InputError
    from tf_hqgnn.types import NotFittedError as NotFittedError

__version__ = "0.2.0"

# Imported when they are first used.
_MODULES = {
    "Config": "tf_hqgnn.config",
    "InputError": "tf_hqgnn.types",
    "NotFittedError": "tf_hqgnn.types",
    "Recommender": "tf_hqgnn.recommender",
}
__all__ = ["Config", "InputError", "NotFittedError", "Recommender", "__version__"]

choose_keras_2()
forbid_pickled_types()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
