"""Graph recommendations on TensorFlow: LightGODE embeddings, HQ-GNN codes."""

import os
import sys

from tf_hqgnn.arrow_guard import forbid_pickled_types

# TensorFlow Recommenders needs Keras 2, which TensorFlow 2.16 picks only if this is set before its first import.
if os.environ.get("TF_USE_LEGACY_KERAS") not in ("1", "True", "true"):
    if "tensorflow" in sys.modules:
        raise ImportError(
            "TensorFlow was imported before tf_hqgnn, with Keras 3; tf_hqgnn needs Keras 2. "
            "Import tf_hqgnn first, or set TF_USE_LEGACY_KERAS=1 before the first import of TensorFlow."
        )
    os.environ["TF_USE_LEGACY_KERAS"] = "1"

forbid_pickled_types()

__version__ = "0.1.0"
