"""Keras metrics over the best answers of users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_hqgnn.lazy_names import lazy_names

if TYPE_CHECKING:
    from tf_hqgnn.metrics.top_k import NDCG, Recall

__all__ = [
    "NDCG",
    "Recall",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "NDCG": "top_k",
        "Recall": "top_k",
    },
)
