"""Encoders and the trainable model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_hqgnn.lazy_names import lazy_names

if TYPE_CHECKING:
    from tf_hqgnn.models.catch_up_adam import CatchUpAdam
    from tf_hqgnn.models.encoder import GraphEncoder, LookupEncoder
    from tf_hqgnn.models.hqgnn import HQGNN
    from tf_hqgnn.models.optimizers import DenseAdam, LazyAdam

__all__ = [
    "HQGNN",
    "CatchUpAdam",
    "DenseAdam",
    "GraphEncoder",
    "LazyAdam",
    "LookupEncoder",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "CatchUpAdam": "catch_up_adam",
        "DenseAdam": "optimizers",
        "GraphEncoder": "encoder",
        "HQGNN": "hqgnn",
        "LazyAdam": "optimizers",
        "LookupEncoder": "encoder",
    },
)
